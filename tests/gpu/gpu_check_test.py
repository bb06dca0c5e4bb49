#!/usr/bin/env python3
"""scripts/gpu_check as far as it goes without a GPU: the archive is packed, unpacked and run on stand-ins; what fails
or takes too long is told.

    gpu_check_test.py SOURCE BUILD DEPS
"""
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest

SOURCE, BUILD, DEPS = (os.path.abspath(path) for path in sys.argv[1:4])
sys.path.insert(0, os.path.join(SOURCE, "scripts", "gpu_check"))
import random_model
import speed

STAND_IN = os.path.join(BUILD, "standin")


class GpuCheckTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = cls.folder.name
        cls.archive = os.path.join(cls.path, "gpu_check.tar.xz")
        cls.packed = cls.check(SOURCE, "pack", "--build", BUILD, "--deps", DEPS, "--archive", cls.archive)
        with tarfile.open(cls.archive) as tar:
            tar.extractall(cls.path)
        cls.unpacked = os.path.join(cls.path, "causeway")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @staticmethod
    def check(root, *arguments, **environment):
        return subprocess.run([sys.executable, "-B", os.path.join(root, "scripts", "gpu_check"), *arguments],
                              capture_output=True, text=True, check=False, env=dict(os.environ, **environment))

    def run_steps(self, *arguments, out="out", **environment):
        """(exit status, {step: (result, rest of its row)})"""
        out = os.path.join(self.path, out)
        done = self.check(self.unpacked, "run", "--stand-in", STAND_IN, "--torch", os.path.join(DEPS, "torch"), "--out",
                          out, *arguments, **environment)
        self.assertEqual(done.stderr, "")
        with open(os.path.join(out, "table.md"), encoding="utf-8") as file:
            table = file.read()
        self.assertTrue(done.stdout.endswith(table + "\n"), done.stdout)
        rows = re.findall(r"^\| (\w+) +\| (\w+) +\| \d+ +\| (.*)", table, re.M)
        return done.returncode, {step: (result, rest) for step, result, rest in rows}

    def test_the_archive_is_small_and_whole(self):
        self.assertEqual(self.packed.returncode, 0, self.packed.stderr)
        self.assertLess(os.path.getsize(self.archive), 64 << 20)
        libraries = os.path.join(self.unpacked, "libraries")
        for program in ("bin/causewayd", "tests/parity_test"):
            listed = subprocess.run(["ldd", os.path.join(self.unpacked, "build", program)], capture_output=True,
                                    text=True, check=True, env={"LD_LIBRARY_PATH": libraries}).stdout
            self.assertNotIn("not found", listed)
            others = [path for path in re.findall(r"=> (/\S+)", listed) if not path.startswith((libraries, DEPS))]
            self.assertEqual([path for path in others if not re.search(r"/lib(c|m|dl|pthread|rt|util)\.so", path)], [],
                             "they come from this machine")
            self.assertIn(os.path.join(libraries, "libabsl_strings.so"), listed)

    def test_steps_pass_on_stand_ins_and_leave_their_logs(self):
        steps = ("doctor", "operations", "quantized", "start", "offload", "bench")
        told = os.path.join(self.path, "told")
        with open(told, "w", encoding="utf-8") as file:
            file.write("0 power 312500\n0 power_limit 700000\n")
        status, rows = self.run_steps(*steps, CAUSEWAY_STANDIN_NVML=told)
        self.assertEqual(status, 0, rows)
        self.assertEqual(tuple(rows), steps)
        self.assertEqual({step for step, (result, _) in rows.items() if result == "skipped"}, {"operations"})
        self.assertEqual({result for result, _ in rows.values()}, {"passed", "skipped"})
        for step in steps:
            self.assertTrue(os.path.exists(os.path.join(self.path, "out", f"{step}.log")), step)
        with open(os.path.join(self.path, "out", "table.md"), encoding="utf-8") as file:
            table = file.read()
        self.assertRegex(table, r"\| NVML: power_watts 312.5 W +\| 700 W +\|")
        self.assertRegex(table, r"\| NVML: temperature_celsius not supported +\|  +\|")

    def test_limits_are_the_catalogues(self):
        device = speed.of_catalogue(SOURCE, "NVIDIA H100 80GB HBM3")
        row = {"batch": 1, "prompt_tokens": 2048, "generated_tokens": 32, "weight_bytes": 13476831232, "dtype": "bf16",
               "prefill_tokens_per_second": 20480, "decode_tokens_per_second": 100}
        decode, prefill = speed.bench_figures([row], random_model.CONFIGS["llama-7b"], device)
        # 13.48 GB and 2,064 tokens of 512 KiB at 3,350 GB/s; 6.48 G weights for 2,048 tokens at 989 TFLOP/s.
        self.assertEqual(decode, ("batch 1, prompt 2048: a step of decoding in 10.00 ms", "4.35 ms"))
        self.assertEqual(prefill, ("batch 1, prompt 2048: prefill in 100.0 ms", "26.8 ms"))
        self.assertEqual(speed.bench_figures([row], random_model.CONFIGS["moe"], device)[0][1], "")
        self.assertIsNone(speed.of_catalogue(SOURCE, "Stand-in GPU"))

    def test_a_failure_is_told(self):
        status, rows = self.run_steps("doctor", "start", out="failed", CAUSEWAY_STANDIN="0x8GiB")
        self.assertEqual(status, 1)
        self.assertEqual(rows["doctor"][0], "FAILED")
        self.assertEqual(rows["start"][0], "FAILED")
        self.assertIn("before it served (see start.log)", rows["start"][1])
        with open(os.path.join(self.path, "failed", "start.log"), encoding="utf-8") as file:
            self.assertIn("no CUDA-capable device is detected", file.read())

    def test_what_takes_too_long_is_ended(self):
        status, rows = self.run_steps("offload", "bench", "--minutes", "0.02", out="slow")
        self.assertEqual(status, 1)
        self.assertEqual(rows["offload"][0], "FAILED")
        self.assertRegex(rows["offload"][1], "did not serve in time|took too long")
        self.assertEqual(rows["bench"][0], "skipped")
        self.assertIn("no time was left", rows["bench"][1])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
