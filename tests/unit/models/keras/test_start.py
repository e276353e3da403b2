"""Starting Keras's backend, each time in a process of its own."""

import subprocess
import sys


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)


def test_backend_starts_without_notes_on_devices() -> None:
    done = run(
        "import sys\nfrom hpo.models.keras.start import start_backend\nstart_backend()\nassert 'keras' in sys.modules\n"
        "print('afterwards', file=sys.stderr)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["afterwards"]


def test_last_words_of_an_aborting_backend_are_shown() -> None:
    done = run(
        "import os, sys, types\n"
        "keras = types.ModuleType('keras')\n"
        "def zeros(n):\n"
        "    os.write(2, b'cudart_stub.cc: no driver\\nno AVX on this machine\\n')\n"
        "    os.abort()\n"
        "keras.ops = types.SimpleNamespace(zeros=zeros)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'keras':\n"
        "            import importlib.machinery, importlib.abc\n"
        "            return importlib.machinery.ModuleSpec(name, Loader())\n"
        "class Loader:\n"
        "    def create_module(self, spec): return keras\n"
        "    def exec_module(self, module): pass\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from hpo.models.keras.start import start_backend\nstart_backend()"
    )
    assert done.returncode < 0
    assert "no AVX on this machine" in done.stderr
    assert "no driver" not in done.stderr
