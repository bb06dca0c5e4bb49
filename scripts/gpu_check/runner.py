"""Runs steps: programs within their time, their output kept, daemons started and stopped."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import archive
from report import Result


class Failed(Exception):
    """The step's promise does not hold."""


class Skipped(Exception):
    """The step cannot be made here."""


class Context:
    def __init__(self, root, flags):
        self.root, self.build, self.stand_in = root, os.path.abspath(flags.build), flags.stand_in
        self.out = os.path.abspath(flags.out)
        self.work = os.path.abspath(flags.work or os.path.join(self.out, "models"))
        os.makedirs(self.out, exist_ok=True)
        os.makedirs(self.work, exist_ok=True)
        self.end = time.monotonic() + 60 * flags.minutes
        self.step_end = self.end
        self.log = None
        self.device = None  # the catalogue's entry of the GPU, once doctor has named it
        self.environment = dict(os.environ, CAUSEWAY_TEST_DEVICES="cuda")
        libraries = archive.link(root, flags.torch)
        if self.stand_in:
            folder = os.path.abspath(self.stand_in)
            libraries.insert(0, folder)
            self.environment["LD_PRELOAD"] = os.path.join(folder, "libcudart.so.13")
            self.environment.setdefault("CAUSEWAY_STANDIN", "1x8GiB")
        if libraries:
            self.environment["LD_LIBRARY_PATH"] = ":".join(libraries)

    def perform(self, step):
        print(f"{step.name}: {step.about}", flush=True)
        begin = time.monotonic()
        if self.end - begin < 1:
            return Result("skipped", 0, [], "no time was left")
        self.step_end = min(self.end, begin + step.seconds)
        figures, state, why = [], "passed", ""
        with open(os.path.join(self.out, f"{step.name}.log"), "w", encoding="utf-8") as self.log:
            try:
                if self.stand_in and step.needs_gpu:
                    raise Skipped("on a stand-in, kernels do nothing")
                figures = step.run(self) or []
            except Skipped as skipped:
                state, why = "skipped", str(skipped)
            except (Failed, OSError, ValueError, KeyError, IndexError) as failure:
                state, why = "FAILED", f"{str(failure) or repr(failure)} (see {step.name}.log)"
                self.log.write(f"\n{failure!r}\n")
        print(f"  {state} {why}", flush=True)
        return Result(state, time.monotonic() - begin, figures, why)

    # Programs.

    def program(self, name):
        """One of ours, by its name."""
        for folder in ("bin", "tests"):
            path = os.path.join(self.build, folder, name)
            if os.path.exists(path):
                return path
        raise Skipped(f"{name} is not built")

    def tool(self, name):
        """One of NVIDIA's, from the archive, the path or the toolkit."""
        packed = os.path.join(self.root, "tools", "nvidia", "cu13", "bin")
        found = shutil.which(name, path=f"{packed}:{os.environ['PATH']}:/usr/local/cuda/bin")
        if found is not None:
            return found
        raise Skipped(f"{name} is not installed")

    def start(self, command, python=False, **more):
        self.log.write(f"$ {' '.join(command)}\n")
        self.log.flush()
        # Python has libraries of its own, which ours must not take the place of.
        environment = dict(os.environ) if python else dict(self.environment)
        environment.update(more)
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=self.log, text=True, start_new_session=True)

    def finish(self, process, name):
        """What it has written, once it has ended well."""
        try:
            out, _ = process.communicate(timeout=max(self.step_end - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self.kill(process)
            out, _ = process.communicate()
            self.log.write(out)
            raise Failed(f"{name} took too long and was ended")
        self.log.write(out)
        if process.returncode != 0:
            raise Failed(f"{name} ended with {process.returncode}")
        return out

    def output(self, command, **more):
        return self.finish(self.start(command, **more), os.path.basename(command[0]))

    def python(self, *arguments):
        script = os.path.join(self.root, "scripts", "gpu_check", arguments[0])
        return self.finish(self.start([sys.executable, script, *arguments[1:]], python=True), arguments[0])

    @staticmethod
    def kill(process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    # Daemons.

    @contextlib.contextmanager
    def daemon(self, *flags):
        """Serves while the block runs, then has to stop by itself. {"grpc": address, "http": address}"""
        ports = os.path.join(self.out, "ports.json")
        with contextlib.suppress(FileNotFoundError):
            os.remove(ports)
        process = self.start([self.program("causewayd"), "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                              "--ports-file", ports, *flags])
        try:
            while not os.path.exists(ports):
                if process.poll() is not None:
                    raise Failed(f"the daemon ended with {process.returncode} before it served")
                if time.monotonic() > self.step_end:
                    raise Failed("the daemon did not serve in time")
                time.sleep(0.1)
            with open(ports, encoding="utf-8") as file:
                yield json.load(file)
            process.send_signal(signal.SIGTERM)
            self.finish(process, "the daemon")
        finally:
            if process.poll() is None:
                self.kill(process)
                process.wait()

    def metrics(self, daemon):
        """{(name, labels as text): value}"""
        with urllib.request.urlopen(f"http://{daemon['http']}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        self.log.write(text)
        samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                sample, value = line.rsplit(" ", 1)
                name, _, labels = sample.partition("{")
                samples[name, labels.rstrip("}")] = float(value)
        return samples

    def model(self, kind):
        """The folder of a model of random weights, made on the GPU once."""
        folder = os.path.join(self.work, kind)
        if not os.path.exists(os.path.join(folder, "config.json")):
            need, room = {"llama-7b": 15e9, "moe": 7e9}[kind], shutil.disk_usage(self.work).free
            if room < need:
                raise Skipped(f"{self.work} has {room / 1e9:.0f} GB of room, and {kind} needs {need / 1e9:.0f}")
            self.python("random_model.py", kind, folder)
        return folder
