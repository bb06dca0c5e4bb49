"""Speed of transformers on a model, at batch 1 and 64, in bf16.

    peer.py FOLDER
"""
import sys
import time


def main():
    try:
        import torch  # pylint: disable=import-outside-toplevel
        from transformers import AutoModelForCausalLM  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        print(f"transformers is not installed ({error})")
        return
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], torch_dtype=torch.bfloat16).cuda()
    model.generation_config.eos_token_id = None
    for batch in (1, 64):
        prompt = torch.randint(5, 30000, (batch, 128), device="cuda")
        seconds = {}
        for tokens in (1, 2, 33):  # the first is a warm-up; the difference of the others is decoding alone
            torch.cuda.synchronize()
            begin = time.monotonic()
            model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, min_new_tokens=tokens,
                           do_sample=False, pad_token_id=0)
            torch.cuda.synchronize()
            seconds[tokens] = time.monotonic() - begin
        print(f"batch {batch}, prompt 128: a step of decoding in {1e3 * (seconds[33] - seconds[2]) / 31:.2f} ms")


if __name__ == "__main__":
    main()
