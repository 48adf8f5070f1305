"""The command as a whole: its parser, exit codes, errors, and the shell around it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from cli_files import stack_weights

import fastrnn
from fastrnn.cli import main
from fastrnn.cli.output import CommandError, ProgressBar, plural, printable, say, say_table, size
from fastrnn.formats import write
from fastrnn.layers.weights import StackConfig

# A buffered stdout, whose errors come late.
SHELL = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
COMMANDS = ("inspect", "convert", "verify", "bench", "trace", "demo", "info")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.npz"
    write(path, stack_weights("encoder.lstm", StackConfig("LSTM", 3, 4)))
    return path


def fastrnn_process(*args: str | os.PathLike[str], **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastrnn", *map(os.fspath, args)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": SHELL} | options
    return subprocess.run(command, text=True, timeout=120, **streams)


def test_help_names_every_command_and_the_exit_codes(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"    {command} " in out for command in COMMANDS)
    assert "exit codes:" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: fastrnn {command}")
    assert "--json" in out
    assert err == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastrnn {fastrnn.__version__}\n"


def test_without_a_command_help_goes_to_stderr(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "commands:" in err


@pytest.mark.parametrize(
    "argv",
    [["train"], ["inspect"], ["inspect", "a", "b"], ["verify", "--depth", "3"], ["convert", "a"]],
)
def test_wrong_usage_is_2_and_names_the_fault(argv, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: fastrnn")
    assert "error: " in err


def test_usage_errors_do_not_drive_the_terminal(capsys):
    assert main(["inspect", "a", "\x1b[31mb"]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\\x1b[31mb" in err


@pytest.mark.parametrize("command", ["inspect", "verify", "convert", "demo"])
def test_a_missing_file_is_2_in_one_line(command, tmp_path, capsys):
    missing = str(tmp_path / "no.pt")
    arguments = {"convert": [missing, str(tmp_path / "out.npz")], "demo": ["--text", missing]}
    assert main([command, *arguments.get(command, [missing])]) == 2
    out, err = capsys.readouterr()
    assert err == f"fastrnn: error: {missing}: No such file or directory\n"
    assert out == ""


def test_a_directory_is_2(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"fastrnn: error: {tmp_path}: Is a directory\n"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may open any file"
)
def test_a_file_that_may_not_be_opened_is_2(model, capsys):
    model.chmod(0)
    assert main(["inspect", str(model)]) == 2
    assert capsys.readouterr().err == f"fastrnn: error: {model}: Permission denied\n"


@pytest.mark.parametrize("content", [b"", b"hello, world\n" * 9, b"\x80\x02garbage", b"PK\3\4" * 9])
@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_file_that_holds_no_weights_is_1_in_one_line(command, content, tmp_path, capsys):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert main([command, str(path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fastrnn: error: {path}: ")
    assert err.count("\n") == 1


def test_names_of_files_do_not_drive_the_terminal(tmp_path, capsys):
    path = tmp_path / "\x1b[31mred\r\n\u202egnp.npz"
    assert main(["inspect", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.endswith("\\x1b[31mred\\r\\n\\u202egnp.npz: No such file or directory\n")
    write(path, {"x": np.zeros(3)})
    assert main(["inspect", str(path)]) == 1  # there is no stack in it
    out = capsys.readouterr().out
    assert "\\x1b[31mred\\r\\n\\u202egnp.npz: npz" in out
    assert printable(out.replace("\n", "")) == out.replace("\n", "")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 1, "fastrnn: error: not enough memory\n"),
        (BrokenPipeError(), 141, ""),
        (fastrnn.FormatError("a.pt: broken"), 1, "fastrnn: error: a.pt: broken\n"),
        (OSError(5, "Input/output error", "a.pt"), 2, "fastrnn: error: a.pt: Input/output error\n"),
        (CommandError("a.pt: no", 2), 2, "fastrnn: error: a.pt: no\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_stops_a_command_becomes_a_code_and_at_most_a_line(
    raised, code, said, monkeypatch, capsys
):
    def stop(path):
        raise raised

    monkeypatch.setattr("fastrnn.cli.inspect.opened", stop)
    assert main(["inspect", "a.pt"]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", said)


def test_what_was_said_before_an_error_is_kept(model, tmp_path):
    script = (
        "import sys; from fastrnn.cli import main; main(['inspect', sys.argv[1]]); "
        "main(['inspect', sys.argv[2]]); main(['--version'])"
    )
    command = [sys.executable, "-c", script, model, tmp_path / "no.pt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=SHELL)
    assert done.stdout.startswith(f"{model}: npz")
    assert done.stdout.endswith(f"fastrnn {fastrnn.__version__}\n")
    assert done.stderr.endswith("No such file or directory\n")


def test_a_bug_is_not_hidden(monkeypatch):
    monkeypatch.setattr("fastrnn.cli.inspect.opened", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "a.pt"])


def test_info_is_that_of_the_library(capsys):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fastrnn.info()
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(fastrnn.info())
    assert lines[0].split() == ["version", fastrnn.__version__]


# In a shell


def test_module_run_says_what_main_returns(model):
    done = fastrnn_process("inspect", model)
    assert done.returncode == 0
    assert "encoder.lstm  LSTM(3, 4)" in done.stdout
    assert done.stderr == ""


def test_no_traceback_for_a_mistake(tmp_path):
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"\x80\x04no")
    for argv, code in ((["inspect", bad], 1), (["verify", tmp_path], 2), (["convert", bad], 2)):
        done = fastrnn_process(*argv)
        assert done.returncode == code
        assert done.stdout == ""
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["inspect"], ["--help"]])
def test_a_reader_that_goes_away_is_met_with_silence(arguments, model):
    read_end, write_end = os.pipe()
    os.close(read_end)
    file = [model] if arguments == ["inspect"] else []
    done = fastrnn_process(*arguments, *file, stdout=write_end)
    os.close(write_end)
    assert done.returncode == 141
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_told_once(model):
    with open("/dev/full", "w") as full:
        done = fastrnn_process("inspect", model, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "fastrnn: error: No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("stderr", ["full", "gone", "closed"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["inspect", "--no-such-option"], 2),
        (["inspect", "missing.pt"], 2),
        (["convert", "partly.npz", "left-out.npz"], 0),
        (["demo", "--text", "empty.txt"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_that_cannot_be_told_changes_no_exit_code(stderr, arguments, code, model):
    folder = model.parent
    (folder / "empty.txt").touch()
    np.savez(folder / "partly.npz", text=np.array(["x"]), **np.load(model))
    read_end, gone = os.pipe()
    os.close(read_end)
    with open("/dev/full", "w") as full, os.fdopen(gone, "w") as gone:
        told = {"closed": {"preexec_fn": lambda: os.close(2)}, "full": {"stderr": full}}
        options = told.get(stderr, {"stderr": gone})
        assert fastrnn_process(*arguments, cwd=folder, **options).returncode == code


# Every option that names a file to be read: a command line with FILE where that file stands.
READ = {
    "inspect": ["inspect", "FILE"],
    "convert": ["convert", "FILE", "out.npz"],
    "verify": ["verify", "FILE"],
    "bench": ["bench", "FILE", "--quick"],
    "serve": ["serve", "FILE", "--port", "0"],
    "trace": ["trace", "FILE", "--input", "x.npy"],
    "trace --input": ["trace", "model.npz", "--input", "FILE"],
    "trace --labels": ["trace", "model.npz", "--input", "x.npy", "--labels", "FILE"],
    "demo --text": ["demo", "--text", "FILE"],
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
@pytest.mark.parametrize("file", ["fifo", "/dev/zero", "/dev/tty", "socket"])
@pytest.mark.parametrize("option", READ)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    option, file, model, monkeypatch, capsys
):
    monkeypatch.chdir(model.parent)
    np.save("x.npy", np.zeros((4, 3), np.float32))
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        code = main([file if word == "FILE" else word for word in READ[option]])
    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"fastrnn: error: {file}: ")
    assert file in ("/dev/tty", "socket") or "not a regular file" in err


@pytest.mark.parametrize("option", ["trace --labels", "demo --text"])
def test_of_a_text_no_more_is_read_than_is_wanted(option, model, monkeypatch, capsys):
    monkeypatch.chdir(model.parent)
    np.save("x.npy", np.zeros((4, 3), np.float32))
    with open("huge.txt", "wb") as file:
        file.write("ñ\r\n€b".encode())
        file.truncate(1 << 40)
    code = main(["huge.txt" if word == "FILE" else word for word in READ[option]])
    err = capsys.readouterr().err
    if option == "demo --text":
        assert err == "fastrnn: error: huge.txt: more than 67,108,864 characters, expected fewer\n"
    assert code == (option == "demo --text")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_command_and_leaves_nothing_half_written(name, model):
    """Also on a file system where what is written has a name from the start."""
    signum = getattr(signal, name)
    code = f"""
        import os, signal, sys
        from fastrnn.cli import main
        from fastrnn.formats import replacing, writing

        def named(folder, spare, mode):
            return open(spare, "xb"), False

        def slow(file, arrays):
            file.write(b"half")
            file.flush()
            print(os.listdir(), flush=True)
            sys.stdin.readline()

        replacing._create = named
        writing._WRITERS[".safetensors"] = slow
        signal.signal(signal.{name}, signal.SIG_DFL)
        sys.exit(main(["convert", "model.npz", "out.safetensors"]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=model.parent,
    )  # fmt: skip
    assert ".tmp" in process.stdout.readline()
    process.send_signal(signum)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == -signum
    assert os.listdir(model.parent) == ["model.npz"]


def test_a_terminal_of_few_letters_is_no_error(tmp_path):
    path = tmp_path / "модель.npz"
    write(path, {"вес": np.zeros(2)})
    done = fastrnn_process("inspect", path, env={**SHELL, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1  # there is no stack in it
    assert "\\u0432\\u0435\\u0441" in done.stdout


# What commands print with


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("encoder.lstm", "encoder.lstm"),
        ("модель ✓", "модель ✓"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp", "\\u202egnp"),
        ("\udcff", "\\udcff"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def test_say_prints_one_line_whatever_is_in_it(capsys):
    say("a\nb\x1b[2J")
    assert capsys.readouterr().out == "a\\nb\\x1b[2J\n"


def test_tables_are_aligned_as_printed(capsys):
    say_table([("a", "b"), ("\x1b", "c"), ("long name", "")])
    assert capsys.readouterr().out == "  a          b\n  \\x1b       c\n  long name\n"


def test_sizes_and_counts():
    assert [size(n) for n in (0, 999, 1000, 1_260_000, 10**10, 5 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "1.3 MB",
        "10.0 GB",
        "5000.0 TB",
    ]
    assert [plural(n, "stack") for n in (0, 1, 2000)] == ["0 stacks", "1 stack", "2,000 stacks"]


@pytest.mark.parametrize(("terminal", "wanted"), [(True, True), (True, False), (False, True)])
def test_progress_is_drawn_on_a_terminal_and_gone_at_the_end(terminal, wanted, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with ProgressBar("scoring", wanted=wanted) as progress:
        for done in range(1, 100):
            progress(done, 100)
    out, err = capsys.readouterr()
    assert out == ""
    if terminal and wanted:
        assert err.startswith("\rscoring [")
        assert err.endswith("\r\x1b[K")
    else:
        assert err == ""


def test_a_wrong_fastrnn_isa_is_a_mistake_not_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fastrnn", "info"],
        env={**os.environ, "FASTRNN_ISA": "sse9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fastrnn: error: FASTRNN_ISA='sse9': there is none of that name")
    assert done.stderr.count("\n") == 1


def test_one_long_cell_does_not_make_every_line_long(capsys):
    say_table([("n" * 1000, "float32"), ("a", "float32")])
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [1011, 111]


@pytest.mark.parametrize("how", [["b.lstm"], ["--prefix", "b.lstm"], ["--stack", "b.lstm"]])
@pytest.mark.parametrize("command", ["verify", "convert", "trace", "bench"])
def test_the_name_of_a_stack_is_said_alike_in_every_command(command, how, tmp_path, capsys):
    layers = {"a": StackConfig("LSTM", 3, 5), "b.lstm": StackConfig("LSTM", 2, 4)}
    path, x = tmp_path / "m.npz", tmp_path / "x.npy"
    np.savez(
        path, **{k: v for name, of in layers.items() for k, v in stack_weights(name, of).items()}
    )
    np.save(x, np.zeros((5, 2), np.float32))
    more = {
        "verify": [], "convert": [], "trace": ["--input", str(x)],
        "bench": ["--quick", "--seconds", "0.001", "--batch", "1", "--steps", "1", "--threads", "1"],
    }[command]  # fmt: skip
    files = [str(path)] + ([str(tmp_path / "out.npz")] if command == "convert" else [])
    assert main([command, *files, *how, *more]) == 0
    out = capsys.readouterr().out
    if command == "convert":
        assert set(np.load(tmp_path / "out.npz")) == set(stack_weights("", layers["b.lstm"]))
    else:
        assert "LSTM(2, 4" in out
        assert "LSTM(3, 5" not in out
    assert main([command, *files, "a", "--prefix", "b.lstm", *more]) == 2
    assert "PREFIX is a, and --prefix or --stack b.lstm: one is enough" in capsys.readouterr().err
