#!/usr/bin/env python3
"""Compares the device maps of `causewayd plan` with transformers' and accelerate's, to the module.

  scripts/compare_maps.py [--causewayd FILE] [--models WORD] [--jobs N]

Over a grid of models, policies and budgets, the libraries make their maps of a model on the meta device, and the
program makes ours from its config.json on simulated devices, weights alone (no KV cache), as the libraries count. A
difference counts as explained only where a trial shows its cause: with the one rule changed that is named, the library
makes our map. Prints every difference and a table of counts; exit status 1 when one is not explained. Needs torch,
transformers 5.23 and accelerate:

  python3 -m venv VENV && VENV/bin/pip install torch transformers==5.23.0 accelerate
  VENV/bin/python scripts/compare_maps.py
"""
import argparse
import collections
import concurrent.futures
import itertools
import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
try:
    import accelerate
    import accelerate.utils.modeling as accelerate_maps
    import torch
    import transformers
    import transformers.integrations.accelerate as transformers_maps
except ImportError as missing:
    sys.exit(f"{missing}. " + __doc__[__doc__.index("Needs torch"):])
sys.path.insert(0, str(ROOT / "engine/plan/testdata"))
from make_maps import GPT2, LLAMA, MINIMAX_M2, MIXTRAL, QWEN3, QWEN3_MOE, STRATEGIES, bytes_of, make_model  # noqa: E402

# The published shapes.
LARGE = {
    "gpt2": dict(model_type="gpt2"),
    "gpt2-xl": dict(model_type="gpt2", n_embd=1600, n_layer=48, n_head=25),
    "llama-3.2-1b": dict(model_type="llama", vocab_size=128256, hidden_size=2048, intermediate_size=8192,
                         num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, head_dim=64,
                         tie_word_embeddings=True),
    "llama-3-8b": dict(model_type="llama", vocab_size=128256, hidden_size=4096, intermediate_size=14336,
                       num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8),
    "llama-3-70b": dict(model_type="llama", vocab_size=128256, hidden_size=8192, intermediate_size=28672,
                        num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8),
    "mistral-7b": dict(model_type="mistral", vocab_size=32768, hidden_size=4096, intermediate_size=14336,
                       num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, sliding_window=None),
    "qwen2-0.5b": dict(model_type="qwen2", vocab_size=151936, hidden_size=896, intermediate_size=4864,
                       num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2-7b": dict(model_type="qwen2", vocab_size=152064, hidden_size=3584, intermediate_size=18944,
                     num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4),
    "qwen3-0.6b": dict(model_type="qwen3", vocab_size=151936, hidden_size=1024, intermediate_size=3072,
                       num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128,
                       tie_word_embeddings=True),
    "qwen3-8b": dict(model_type="qwen3", vocab_size=151936, hidden_size=4096, intermediate_size=12288,
                     num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128),
    "mixtral-8x7b": dict(model_type="mixtral", vocab_size=32000, hidden_size=4096, intermediate_size=14336,
                         num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, num_local_experts=8,
                         num_experts_per_tok=2),
    "qwen3-30b-a3b": dict(model_type="qwen3_moe", vocab_size=151936, hidden_size=2048, intermediate_size=6144,
                          num_hidden_layers=48, num_attention_heads=32, num_key_value_heads=4, head_dim=128,
                          num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768),
    "minimax-m2": dict(model_type="minimax_m2"),
}
TIED = dict(tie_word_embeddings=True)
SMALL = {
    "tiny gpt2, not tied": GPT2 | dict(tie_word_embeddings=False),
    "tiny llama": LLAMA | dict(num_hidden_layers=9),
    "tiny llama, tied": LLAMA | TIED | dict(vocab_size=2048),
    "tiny mistral, tied": LLAMA | TIED | dict(model_type="mistral"),
    "tiny qwen2, tied": LLAMA | TIED | dict(model_type="qwen2", vocab_size=2048),
    "tiny qwen3, tied": QWEN3 | TIED,
    "tiny mixtral, tied": MIXTRAL | TIED,
    "tiny qwen3_moe, tied": QWEN3_MOE | TIED | dict(num_hidden_layers=6, mlp_only_layers=[0, 1]),
    "tiny minimax_m2": MINIMAX_M2 | dict(num_hidden_layers=7),
    "tiny minimax_m2, tied": MINIMAX_M2 | TIED,
}
GRID = LARGE | SMALL


def fleets(total, block, embedding):
    """Budgets by GPU id, or "cpu"."""
    yield {0: 2 * total}
    yield {0: total}
    yield {0: total * 2 // 3}
    yield {0: total * 2 // 3, "cpu": 2 * total}
    yield {0: block // 2, "cpu": 2 * total}
    yield {0: 0, 1: 2 * total}
    yield {0: 0, 1: total, 2: total}
    yield {0: total, 1: 0, 2: total}
    yield {0: total, 2: total}
    yield {0: total // 2, 1: total // 2, 3: total}
    yield {1: total, 3: total}
    for n in (2, 4, 8):
        yield {i: total // n + 2 * (block + embedding) for i in range(n)}
        yield {i: int(1.1 * total / n) for i in range(n)}
    yield {i: int(total * (i + 1) / 4) for i in range(4)}
    yield {i: int(total * (4 - i) / 4) for i in range(4)}
    yield {i: (2 if i % 2 else 1) * total // 8 for i in range(8)}
    yield {i: total // 4 for i in range(4)} | {"cpu": total}
    yield {0: block // 2, 1: block // 2}
    yield {0: max(1, embedding - 1), 1: 2 * total}
    yield {i: max(1, embedding - 1) for i in range(2)} | {"cpu": 2 * total}
    yield {"cpu": 2 * total}
    yield {"cpu": total // 2}


# The libraries, each with what can be changed in it to be as ours is.

IDS = "balanced_low_0 takes GPUs to be numbered without gaps"
BUFFER = "accelerate balances with another slack"


def balanced(library, model, policy, budgets, changed):
    """What the library lowers the budgets to."""
    live = [key for key, size in budgets.items() if key != "cpu" and size > 0]
    low_0 = policy == "balanced_low_0"
    renumber = IDS in changed and low_0 and len(live) > 1 and live[0] == 0
    numbers = {key: i for i, key in enumerate(live)} if renumber else {}
    if numbers:
        lowered = balanced(library, model, policy, {numbers[key]: budgets[key] for key in live}, set(changed) - {IDS})
        return {key: lowered[numbers[key]] if key in numbers else size for key, size in budgets.items()}
    if library == "transformers" or BUFFER in changed:
        return transformers_maps.get_balanced_memory(model, dict(budgets), model._no_split_modules, low_zero=low_0)
    return accelerate_maps.get_balanced_memory(model, dict(budgets), list(model._no_split_modules), low_zero=low_0)


INFER = {"transformers": transformers_maps.infer_auto_device_map, "accelerate": accelerate_maps.infer_auto_device_map}
CHANGES = {"transformers": (IDS,), "accelerate": (BUFFER, IDS)}


def library_map(library, model, policy, budgets, changed=()):
    """{module prefix: device}, or the exception."""
    try:
        caps = dict(budgets) if policy == "sequential" else balanced(library, model, policy, budgets, changed)
        found = INFER[library](model, max_memory=caps, no_split_module_classes=list(model._no_split_modules))
    except (KeyError, ValueError) as error:
        return error
    return {key: str(device) for key, device in found.items()}


# Ours.

def lookup(device_map, name):
    while name not in device_map:
        if not name:
            return None
        name = name.rpartition(".")[0]
    return device_map[name]


def our_map(program, folder, policy, budgets):
    """{module prefix: device}, or what the program said when it refused."""
    gpus = [key for key in budgets if key != "cpu"]
    sizes = [max(1, budgets.get(i, 1)) for i in range(max(gpus) + 1)] if gpus else []
    run = subprocess.run(
        [program, "plan", "--model", folder, "--format", "json", "--device-map", policy, "--reference-ops",
         "--kv-cache", "0", "--offload-folder", folder,
         "--devices", "simulated:" + ",".join(f"1x{size}B" for size in sizes) if gpus else "cpu",
         "--max-memory", ",".join(f"{key}:{size}B" for key, size in budgets.items())],
        capture_output=True, text=True, check=False)
    if run.returncode == 0:
        found = {key: str(device) for key, device in json.loads(run.stdout)["device_map"].items()}
        # What goes without saying is left out.
        return {key: device for key, device in found.items()
                if not key or lookup(found, key.rpartition(".")[0]) != device}
    return run.stderr.strip() or f"exit status {run.returncode}"


# Where the program refuses a map that the library makes: what the map has to be like for that.

class Model:
    def __init__(self, config):
        self.module = make_model(config, torch.bfloat16)
        self.family = config["model_type"]
        self.sizes, _ = transformers_maps.compute_module_sizes(self.module)
        self.parts = list(self.parts_of("", self.module))  # blocks, and modules outside of them
        base = self.module.get_decoder()
        self.block = bytes_of((base.layers if hasattr(base, "layers") else base.h)[0])
        self.embedding = bytes_of(self.module.get_input_embeddings())
        self.total = bytes_of(self.module)

    def parts_of(self, path, module):
        children = list(module.named_children())
        if not children or type(module).__name__ in self.module._no_split_modules:
            yield path
            return
        for name, child in children:
            yield from self.parts_of(f"{path}.{name}".strip("."), child)


def refused_rightly(model, policy, budgets, theirs, refusal):
    """Why, or None."""
    if isinstance(theirs, KeyError):
        live = [key for key, size in budgets.items() if key != "cpu" and size > 0]
        if policy == "balanced_low_0" and 0 not in budgets and len(live) > 1 and "spares GPU 0" in refusal:
            return "balanced_low_0 without a GPU 0 is an error in both"
        return None
    if isinstance(theirs, Exception):
        return None
    short = re.search(r"simulated:(\d+) is .* short: .* take weights", refusal)
    if short and {"cpu", "disk"} & set(theirs.values()):
        gpu = int(short[1])
        held = sum(model.sizes[part] for part in model.parts if lookup(theirs, part) == str(gpu))
        if held <= budgets[gpu]:
            return "what spills is computed on a GPU, which has no room for it to come through"
    tables = [part for part in model.parts if part.endswith((".wte", ".wpe"))]
    if len({lookup(theirs, part) for part in tables}) > 1 and "these compute together" in refusal:
        return "tables of embeddings that compute together must share a device"
    return None


def explain(library, model, policy, budgets, ours):
    """(whether the maps agree, what explains it where they do not; None: nothing does)."""
    for count in range(len(CHANGES[library]) + 1):
        for changed in itertools.combinations(CHANGES[library], count):
            theirs = library_map(library, model.module, policy, budgets, changed)
            if theirs == ours:
                return not changed, changed
            why = refused_rightly(model, policy, budgets, theirs, ours) if isinstance(ours, str) else None
            if why:
                return False, (*changed, why)
    return False, None


def difference(model, theirs, ours):
    if isinstance(theirs, Exception):
        return f"{type(theirs).__name__}: {theirs}"
    if isinstance(ours, str):
        return "spread over " + ", ".join(sorted(set(theirs.values())))
    differ = [(part, lookup(theirs, part), lookup(ours, part)) for part in model.parts
              if lookup(theirs, part) != lookup(ours, part)]
    if not differ:
        return "the same places under other prefixes"
    first, there, here = differ[0]
    return f"{len(differ)} parts elsewhere, from {first} on, which is on {there} there and on {here} here"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--causewayd", default=str(ROOT / "build/bin/causewayd"), help="the program")
    parser.add_argument("--models", default="", help="only models with this in their name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="programs that run at once")
    args = parser.parse_args()
    if not os.access(args.causewayd, os.X_OK):
        sys.exit(f"--causewayd: {args.causewayd} is no program; build it, or name where it is")
    for name in ("accelerate", "transformers"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # that this machine has no such GPUs
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    counts = collections.defaultdict(collections.Counter)  # (family, policy) -> library and outcome -> cases
    causes = collections.Counter()
    skipped = 0
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for number, (name, config) in enumerate(GRID.items()):
            if args.models not in name:
                continue
            model = Model(config)
            folder = pathlib.Path(scratch) / str(number)
            model.module.config.save_pretrained(folder)
            cases = []
            for budgets, policy in itertools.product(fleets(model.total, model.block, model.embedding), STRATEGIES):
                if list(budgets) == ["cpu"] and budgets["cpu"] > memory:
                    skipped += 1  # the CPU is this machine's, and cannot be simulated
                    continue
                cases.append((budgets, policy, pool.submit(our_map, args.causewayd, str(folder), policy, budgets)))
            for budgets, policy, future in cases:
                ours = future.result()
                for library in CHANGES:
                    same, why = explain(library, model, policy, budgets, ours)
                    outcome = ("same" if same else "unexplained" if not why
                               else "refused" if isinstance(ours, str) else "explained")
                    counts[model.family, policy][library, outcome] += 1
                    if same:
                        continue
                    theirs = library_map(library, model.module, policy, budgets)
                    causes.update((library, cause) for cause in why or ("NOT EXPLAINED",))
                    print(f"{name}, {policy}, {budgets}: {library}: {difference(model, theirs, ours)}: "
                          f"{'; '.join(why or ('NOT EXPLAINED',))}"
                          + (f"; here: {ours}" if not why else ""), flush=True)
    return report(counts, causes, skipped)


# refused: the program refuses the map, for a reason that was checked.
OUTCOMES = ("same", "explained", "refused", "unexplained")


def report(counts, causes, skipped):
    outcomes = list(itertools.product(CHANGES, OUTCOMES))
    print(f"\ntransformers {transformers.__version__}, accelerate {accelerate.__version__}\n")
    print("| family | policy | cases | " + " | ".join(f"{library}: {outcome}" for library, outcome in outcomes) + " |")
    print("| --- | --- |" + " ---: |" * (len(outcomes) + 1))
    total = collections.Counter()
    for (family, policy), row in counts.items():
        total.update(row)
        print(f"| {family} | {policy} | {sum(row.values()) // 2} | "
              + " | ".join(str(row[outcome]) for outcome in outcomes) + " |")
    print(f"| all | | {sum(total.values()) // 2} | " + " | ".join(str(total[outcome]) for outcome in outcomes) + " |\n")
    print("| library | cause | cases |\n| --- | --- | ---: |")
    for (library, cause), cases in causes.most_common():
        print(f"| {library} | {cause} | {cases} |")
    if skipped:
        print(f"\n{skipped} cases left out: they give the CPU more than this machine has.")
    return 1 if any(outcome == "unexplained" for _, outcome in total) else 0


if __name__ == "__main__":
    sys.exit(main())
