"""The command among pipes, full disks, closed streams, narrow terminals and signals, as a process of its own.

Bad input ends with one line on stderr and status 2, a signal with its status, and nothing that was found is lost.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

REASON = 'the command line needs pip install ".[cli]"'
pytest.importorskip("pyarrow", reason=REASON)
pytest.importorskip("rich", reason=REASON)
pytest.importorskip("sklearn", reason=REASON)
if sys.platform == "win32":
    pytest.skip("pipes by name, /dev/full and signals are those of Unix", allow_module_level=True)

from fastrobust.cli import main, outputs, streams  # noqa: E402

COMMAND = [sys.executable, "-m", "fastrobust"]
FIT = [*COMMAND, "fit", "t.csv", "--target", "y"]
FULL = "cannot write to standard output: No space left on device"
CLOSED = "standard output is closed"
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full: /dev/full")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.arange(30.0)
    lines = [f"{a},{3 * a + (a * a * 7) % 5}" for a in x]
    (tmp_path / "t.csv").write_text("\n".join(["größe ☃,y", *lines]) + "\n", encoding="utf-8")


def shell(text, **environment):
    """Run by bash, with ``$fit`` for the fit of t.csv and ``$command`` for the command."""
    names = {"fit": " ".join(FIT), "command": " ".join(COMMAND), **environment}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {text}"], capture_output=True, timeout=120, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **names},
    )  # fmt: skip


def one_line(done, *words, status=2):
    text = done.stderr.decode()
    assert done.returncode == status, text
    assert len(text.splitlines()) == 1, text
    assert all(word in text for word in words), text


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What a fit prints below its first line, which names the file."""
    where = tmp_path_factory.mktemp("report")
    x = np.arange(30.0)
    lines = [f"{a},{3 * a + (a * a * 7) % 5}" for a in x]
    (where / "t.csv").write_text("\n".join(["größe ☃,y", *lines]) + "\n", encoding="utf-8")
    done = subprocess.run(
        FIT, cwd=where, capture_output=True, timeout=120, check=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"}
    )
    assert done.stderr == b""
    text = done.stdout.decode()
    assert text.endswith(" degrees of freedom.\n")
    return text.partition("\n")[2]


# Input that cannot be read twice


@pytest.mark.parametrize(
    "text",
    ["$command fit <(iconv -f UTF-8 -t UTF-16 t.csv) --target y", "cat t.csv | $command fit /dev/stdin --target y",
     "gzip -c t.csv | $command fit - --target y"],
)  # fmt: skip
def test_a_pipe_is_read_whole(text, report):
    done = shell(text)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().partition("\n")[2] == report


def test_parquet_comes_through_a_pipe_too(report):
    import pyarrow.csv
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.csv.read_csv("t.csv"), "t.parquet")
    done = shell("cat t.parquet | $command fit - --target y")
    assert done.stdout.decode().partition("\n")[2] == report, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [("$command fit - --target y < /dev/null", "standard input is empty"),
     ("$command fit - --target y <&-", "standard input: it is closed"),
     ("echo x,y | $command fit - --target y", "standard input has no data rows")],
)  # fmt: skip
def test_input_that_is_none_is_one_line(text, words):
    one_line(shell(text), words)


@pytest.mark.parametrize(
    ("name", "words"), [("/dev/zero", "it is a device"), ("", "No such file"), ("a" * 300, "too long")]
)
def test_a_name_of_no_file_is_one_line(name, words, capfd):
    assert main(["fit", name, "--target", "y"]) == 2
    said = capfd.readouterr()
    assert len(said.err.splitlines()) == 1
    assert words in said.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_the_wait_for_a_pipes_writer(number, status):
    os.mkfifo("pipe")
    # A signal that is ignored here, as under nohup, would be ignored there too; one that is handled here is not.
    before = signal.signal(number, lambda *_: None)
    try:
        process = subprocess.Popen(
            [*COMMAND, "fit", "pipe", "--target", "y", "--json", "fit.json"], stderr=subprocess.PIPE
        )
    finally:
        signal.signal(number, before)
    with process:
        # It opens the pipe once all is imported: its file descriptor cannot be seen, so ask what it waits in.
        deadline = time.monotonic() + 60
        while not _waits(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        try:
            _, error = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == status
    assert error == (b"fastrobust fit: interrupted\n" if number == signal.SIGINT else b"")
    assert sorted(os.listdir()) == ["pipe", "t.csv"]


def _waits(pid):
    """Whether the process sleeps in the opening of a file, as of a pipe without writer; else after some seconds."""
    openat = {"x86_64": "257", "aarch64": "56"}.get(platform.machine())
    try:
        with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
            return file.read().split()[0] == openat  # "running" where it computes
    except OSError:  # another system, or one that does not tell
        time.sleep(15)
        return True


# Output that goes nowhere


@needs_full
@pytest.mark.parametrize(
    ("what", "unbuffered"), [("$fit", ""), ("$fit --json -", "1"), ("$command info", ""), ("$command --version", "1")]
)
def test_a_full_disk_is_one_line(what, unbuffered):
    one_line(shell(f"{what} > /dev/full", PYTHONUNBUFFERED=unbuffered), FULL)


@needs_full
def test_files_are_written_where_the_report_is_not(capfd):
    one_line(shell("$fit --json fit.json > /dev/full"), FULL)
    with open("fit.json", encoding="utf-8") as file:
        assert json.load(file)["rows"] == 30
    one_line(shell("$fit --json /dev/full --plot fit.png"), "cannot write '/dev/full'")
    assert sorted(os.listdir()) == ["fit.json", "t.csv"], "all files or none"


@pytest.mark.parametrize("what", ["$fit --json fit.json", "$command demo", "$command info", "$command fit --help"])
def test_a_closed_standard_output_is_one_line_before_any_work(what):
    one_line(shell(f"{what} >&-"), CLOSED)
    assert os.listdir() == ["t.csv"]


def test_no_standard_error_changes_nothing_but_the_line(report):
    done = shell("$fit --json fit.json 2>&-")
    assert done.returncode == 0
    assert done.stdout.decode().partition("\n")[2] == report + "wrote fit.json\n"
    for where in ("2>&-", "2>/dev/full"):
        done = shell(f"$command fit nowhere.csv --target y {where}")
        assert (done.returncode, done.stdout) == (2, b"")
    with open("fit.json", encoding="utf-8") as file:
        json.load(file)  # no stream of the process was mixed into it


@pytest.mark.parametrize(
    ("what", "unbuffered"),
    [("fit t.csv --target y", ""), ("fit t.csv --target y --json -", "1"), ("info", "1"), ("fit --help", "")],
)
def test_a_reader_that_leaves_ends_it_by_141_without_a_word(what, unbuffered):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([*COMMAND, *what.split()], stdout=write, stderr=subprocess.PIPE, timeout=120, check=False,
                              env={**os.environ, "PYTHONUNBUFFERED": unbuffered})  # fmt: skip
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


# Names in every script on every terminal


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "latin-1"},
     {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}],
    ids=str,
)  # fmt: skip
def test_a_terminal_that_lacks_a_character_gets_the_whole_report(environment, report):
    done = shell("$fit", **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    latin = "latin" in environment["PYTHONIOENCODING"]
    expected = report.replace("☃", "?").replace("größe", "größe" if latin else "gr??e")
    assert done.stdout.decode("latin-1").partition("\n")[2] == expected


def test_what_is_no_character_to_print_is_escaped():
    name = "\x1b[2J\x1b]0;title\x07"
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write(f"{name},y\n" + "".join(f"{i},{i * i % 7}\n" for i in range(20)))
    os.mkdir(b"\xff[")
    os.rename("t.csv", b"\xff[/b].csv")
    command = [*COMMAND, "fit", b"\xff[/b].csv", "--target", "y", "--json", "fit.json"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\x1b[2J\x1b]0;title\x07" in done.stdout
    assert b"\x1b" not in done.stdout
    with open("fit.json", encoding="utf-8") as file:
        content = json.load(file)
    assert content["features"] == [name]
    assert os.fsencode(content["file"]) == b"\xff[/b].csv"


def on_a_terminal(*arguments, **environment):
    """The status and what a terminal of 40 columns shows of the command's standard output and error."""
    import pty

    master, slave = pty.openpty()
    shown = []

    def copy():
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the last end of the other side is closed
                return
            if not piece:
                return
            shown.append(piece)

    reader = threading.Thread(target=copy)
    reader.start()
    try:
        done = subprocess.run([*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, timeout=120, check=False,
                              env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment})  # fmt: skip
    finally:
        os.close(slave)
        reader.join(timeout=120)
        os.close(master)
    return done.returncode, b"".join(shown).decode()


@pytest.mark.parametrize("environment", [{"COLUMNS": "1", "TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_every_number_is_whole_on_every_terminal(environment, report):
    os.mkdir("a[")  # a name that would be markup
    os.rename("t.csv", "a[/b].csv")
    status, shown = on_a_terminal("fit", "a[/b].csv", "--target", "y", **environment)
    assert status == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", shown)
    numbers = re.compile(r"-?\d+\.\d+(?:e[+-]\d+)?")
    assert numbers.findall(report) == numbers.findall(plain)
    assert "\x1b" not in shown or environment["TERM"] != "dumb"


def test_help_fits_every_width():
    done = shell("$command fit --help", COLUMNS="1")
    assert done.returncode == 0
    text = " ".join(done.stdout.decode().split())
    assert all(word in text for word in ("standard input", "N/A", "--drop-missing", "JSON keys:"))


# Where the files go


def test_json_to_standard_output_is_nothing_but_that():
    expected = shell("$fit --json fit.json").returncode
    assert expected == 0
    with open("fit.json", "rb") as file:
        content = file.read()
    for text in (
        "$fit --json /dev/fd/1",
        "$fit --json out > out; cat out",
        "PYTHONIOENCODING=ascii $fit --json -",
    ):
        done = shell(text)
        assert (done.returncode, done.stderr) == (0, b""), text
        assert done.stdout == content, text
    assert sorted(os.listdir()) == ["fit.json", "out", "t.csv"]


def test_pipes_and_devices_are_written_directly(report):
    done = shell("$fit --json >(cat > copy) && sleep 0.5 && $fit --json fit.json > /dev/null && cmp copy fit.json")
    assert (done.returncode, done.stderr) == (0, b"")
    done = shell("$fit --json /dev/null")
    assert done.stdout.decode().partition("\n")[2] == report + "wrote /dev/null\n"
    done = shell("$fit --json /dev/stderr 2> err && cmp err fit.json")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--json", "a" * 300 + ".json"], "File name too long"), (["--plot", "a" * 300 + ".png"], "File name too long"),
     (["--json", "no/fit.json"], "No such file"), (["--json", "fit/"], "no file"), (["--json", ""], "no file"),
     (["--json", "loop"], "symbolic links"), (["--json", "directory"], "directory"), (["--plot", "-"], "has to end in"),
     (["--json", "/proc/fit.json"], "cannot write '/proc/fit.json'"), (["--json", "t.csv"], "different files"),
     (["--json", "hard"], "different files"), (["--json", "./directory/../t.csv"], "different files"),
     (["--json", "new.png", "--plot", "link.png"], "different files")],
)  # fmt: skip
def test_an_output_that_cannot_be_written_is_one_line_before_any_work(options, words, capfd):
    pytest.importorskip("matplotlib", reason='the pictures need pip install ".[plot]"')
    os.mkdir("directory")
    os.symlink("loop", "loop")
    os.symlink("new.png", "link.png")
    os.link("t.csv", "hard")
    before = sorted(os.listdir())
    with open("t.csv", "rb") as file:
        content = file.read()
    assert main(["fit", "t.csv", "--target", "y", *options]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert words in said.err
    assert sorted(os.listdir()) == before
    with open("t.csv", "rb") as file:
        assert file.read() == content


@pytest.mark.parametrize("name", ["a" * 300, "t.csv", "t.csv/below"])
def test_a_directory_for_the_demo_that_cannot_be_made_is_one_line(name, capfd):
    pytest.importorskip("matplotlib", reason='the pictures need pip install ".[plot]"')
    assert main(["demo", "--size", "1000", "--outdir", name]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_the_report_spoils_no_file():
    for text, words in (("$fit >> t.csv", "'t.csv'"), ("$fit --plot fit.png > fit.png", "'fit.png'")):
        one_line(shell(text), "standard output goes to", words)
    with open("t.csv", encoding="utf-8") as file:
        assert len(file.readlines()) == 31


def test_a_file_that_is_replaced_keeps_its_permissions_and_its_links():
    for name, mode in (("secret", 0o600), ("shared", 0o664)):
        with open(name, "w", encoding="ascii") as file:
            file.write("older")
        os.chmod(name, mode)
        os.symlink(name, f"to_{name}")
        outputs.write_files({f"to_{name}": b"newer"})
        assert os.path.islink(f"to_{name}")
        assert os.stat(name).st_mode & 0o777 == mode
        with open(name, "rb") as file:
            assert file.read() == b"newer"


@pytest.mark.parametrize("after", [0.5, 2.0])
def test_sigterm_during_a_fit_leaves_nothing(after):
    """At whatever it is: imports, the fit, the picture."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 30))
    header = ",".join([*(f"x{i}" for i in range(30)), "y"])
    np.savetxt("t.csv", np.column_stack((X, X.sum(axis=1) + rng.standard_cauchy(20_000))), delimiter=",", fmt="%.6g",
               header=header, comments="")  # fmt: skip
    command = [*COMMAND, "fit", "t.csv", "--target", "y", "--plot", "fit.png", "--json", "fit.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(after)
        process.send_signal(signal.SIGTERM)
        try:
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    # Before its handler stands, the signal ends the process itself: shells say 143 of both.
    assert process.returncode in (143, -signal.SIGTERM, 0)
    assert error == b""
    left, whole = set(os.listdir()), {"t.csv", "fit.png", "fit.json"}
    # A signal may also come between the last file's being put into its place and the end.
    assert left == whole or (process.returncode != 0 and left == {"t.csv"})


def test_a_second_sigterm_ends_it_at_once_and_handlers_are_put_back(monkeypatch):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with streams.guarded():
            with pytest.raises(SystemExit) as ended:
                signal.raise_signal(signal.SIGTERM)
            assert ended.value.code == 143
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with streams.guarded():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_and_sighup_that_are_ignored_stay_so():
    """As nohup has it: ignored signals are left alone."""
    program = (
        "import signal; from fastrobust.cli import streams\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with streams.guarded(): print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, "
        "signal.getsignal(signal.SIGTERM) is streams._end)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True True\n"
