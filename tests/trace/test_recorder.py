"""Recording: strace's text read line by line, and real programs under a real strace.

Method: short texts as strace 6.1 prints them, each with one thing that is easy to get wrong,
and the list of events that must come out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guest_agent.workload.events import (
    Event,
    Exec,
    Exit,
    Fork,
    Fsync,
    Map,
    Msync,
    Read,
    Sync,
    Trace,
    TraceError,
    Truncate,
    Unlink,
    Unmap,
    Write,
)
from guest_agent.workload.filelog import NOT_REGULAR
from guest_agent.workload.recorder import Inherited, Recorder, record
from guest_agent.workload.strace_text import Call, Ended, read_calls, split_arguments, unescape

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def recorded(
    text: str, *, sizes: dict[str, int] | None = None, inherited: Inherited | None = None
) -> Trace:
    """Read a text; `sizes` is what there is afterwards."""
    recorder = Recorder(lambda path: (sizes or {}).get(path), "/w", inherited)
    recorder.read(line.strip() + "\n" for line in text.strip().splitlines())
    return recorder.finish(lambda path, number: path, "test")


def events(text: str, **rest: dict[str, int]) -> list[Event]:
    return list(recorded(text, **rest).events())  # type: ignore[arg-type]


# The text


def test_arguments_split_at_top_level_only() -> None:
    text = 'f(3</a, b (c)>, "x, \\")", [{a=1, b=2}], {st_mode=1|2, ...}, 1<<3, NULL /* v, w */) = 0'
    arguments, end = split_arguments(text, 2)
    assert arguments[:5] == [
        "3</a, b (c)>",
        '"x, \\")"',
        "[{a=1, b=2}]",
        "{st_mode=1|2, ...}",
        "1<<3",
    ]
    assert text[end:] == " = 0"
    assert split_arguments("sync() = 0", 5) == ([], 6)
    assert split_arguments("f(4</dev/tty<char 5:0>>, 1) = 0", 2)[0] == [
        "4</dev/tty<char 5:0>>",
        "1",
    ]


def test_escapes_are_bytes_of_utf8() -> None:
    assert unescape(r"a\303\251\76\"\n\\") == 'aé>"\n\\'
    assert unescape(r"\377") == "\udcff"
    assert unescape("plain é") == "plain é"


def test_interrupted_calls_are_joined_where_they_end() -> None:
    text = [
        "1 read(3</a>,  <unfinished ...>",
        '2 write(4</b>, ""..., 5) = 5',
        '1 <... read resumed>""..., 10) = 7',
        "1 vfork( <unfinished ...>",
        "1 <... vfork resumed>)             = 9",
        "1 --- SIGCHLD {si_signo=SIGCHLD} ---",
        "1 exit_group(0)                    = ?",
        "1 +++ exited with 0 +++",
        "2 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3</a>, 0) = 0x7f00",
        "3 read(5</c>,  <unfinished ...>",
        "3 +++ killed by SIGKILL +++",
        "garbage",
        "2 ????( <unfinished ...>",
    ]
    assert list(read_calls(text)) == [
        Call(2, "write", ("4</b>", '""...', "5"), 5),
        Call(1, "read", ("3</a>", '""...', "10"), 7),
        Call(1, "vfork", (), 9),
        Call(1, "exit_group", ("0",), None),
        Ended(1),
        Call(2, "mmap", ("NULL", "4096", "PROT_READ", "MAP_PRIVATE", "3</a>", "0"), 0x7F00),
        Ended(3),
    ]


# Data and offsets

OPEN = '1 openat(AT_FDCWD</w>, "a", O_RDWR|O_CREAT|O_EXCL, 0666) = 3</w/a>\n'


def test_reads_and_writes_move_the_shared_offset_and_count_whole_pages() -> None:
    trace = recorded(
        OPEN
        + """
        1 write(3</w/a>, ""..., 10000) = 10000
        1 dup(3</w/a>) = 4</w/a>
        1 lseek(4</w/a>, 4095, SEEK_SET) = 4095
        1 read(3</w/a>, ""..., 2) = 2
        1 read(4</w/a>, ""..., 3000) = 3000
        1 pread64(3</w/a>, ""..., 100, 8192) = 100
        1 readv(3</w/a>, [{iov_base=""..., iov_len=8}], 1) = 8
        1 preadv2(3</w/a>, [...], 1, -1, 0) = 1
        1 pwritev(3</w/a>, [...], 2, 20480) = 1
        1 read(3</w/a>, "", 10) = 0
        1 read(3</w/a>, 0x7f, 10) = -1 EINTR (Interrupted system call)
        1 fdatasync(3</w/a>) = 0
        """
    )
    assert list(trace.events()) == [
        Write(0, 0, 0, 3),
        Read(0, 0, 0, 2),
        Read(0, 0, 1, 1),
        Read(0, 0, 2, 1),
        Read(0, 0, 1, 1),
        Read(0, 0, 1, 1),
        Write(0, 0, 5, 1),
        Fsync(0, 0),
    ]
    (file,) = trace.files
    assert (file.name, file.pages, file.initial_pages) == ("/w/a", 6, 0)


def test_separate_openings_have_separate_offsets() -> None:
    text = """
        1 openat(AT_FDCWD</w>, "a", O_RDONLY) = 3</w/a>
        1 openat(AT_FDCWD</w>, "a", O_RDONLY) = 4</w/a>
        1 read(3</w/a>, ""..., 5000) = 5000
        1 read(4</w/a>, ""..., 100) = 100
        1 dup2(3</w/a>, 4</w/a>) = 4</w/a>
        1 read(4</w/a>, ""..., 5000) = 5000
        """
    assert events(text) == [Read(0, 0, 0, 2), Read(0, 0, 0, 1), Read(0, 0, 1, 2)]


APPEND = """
    1 openat(AT_FDCWD</w>, "log", O_WRONLY|O_CREAT|O_APPEND, 0666) = 3</w/log>
    {known}
    1 write(3</w/log>, ""..., 100) = 100
    1 pwrite64(3</w/log>, ""..., 4096, 0) = 4096
    1 lseek(3</w/log>, 0, SEEK_CUR) = 1
    """


@pytest.mark.parametrize(
    "known",
    [
        "1 fstat(3</w/log>, {st_mode=S_IFREG|0644, st_size=8100, ...}) = 0",
        '1 newfstatat(3</w/log>, "", {st_mode=S_IFREG|0644, st_size=8100}, AT_EMPTY_PATH) = 0',
        '1 statx(3</w/log>, "", AT_EMPTY_PATH, 0, {stx_mode=S_IFREG|0644, stx_size=8100}) = 0',
        "1 lseek(3</w/log>, -100, SEEK_END) = 8000",
    ],
)
def test_appends_go_to_the_end_that_a_call_has_shown(known: str) -> None:
    trace = recorded(APPEND.format(known=known))
    assert list(trace.events()) == [Write(0, 0, 1, 2), Write(0, 0, 2, 2)]
    assert (trace.files[0].initial_pages, trace.files[0].pages) == (2, 4)


def test_appends_to_a_file_of_unknown_size_are_placed_when_it_shows() -> None:
    later = APPEND.format(known="") + "1 lseek(3</w/log>, 0, SEEK_END) = 12296\n"
    assert events(later) == [Write(0, 0, 1, 2), Write(0, 0, 2, 2)]
    trace = recorded(APPEND.format(known=""), sizes={"/w/log": 12296})
    assert list(trace.events()) == [Write(0, 0, 1, 2), Write(0, 0, 2, 2)]
    assert trace.files[0].initial_pages == 3 - 1
    assert events(APPEND.format(known="")) == [Write(0, 0, 0, 1), Write(0, 0, 0, 2)]


def test_append_can_be_switched_on() -> None:
    text = (
        OPEN
        + """
        1 write(3</w/a>, ""..., 4096) = 4096
        1 lseek(3</w/a>, 0, SEEK_SET) = 0
        1 fcntl(3</w/a>, F_SETFL, O_RDWR|O_APPEND) = 0
        1 write(3</w/a>, ""..., 1) = 1
        """
    )
    assert events(text) == [Write(0, 0, 0, 1), Write(0, 0, 1, 1)]


def test_copies_read_and_write() -> None:
    text = (
        OPEN
        + """
        1 openat(AT_FDCWD</w>, "b", O_RDONLY) = 4</w/b>
        1 sendfile(3</w/a>, 4</w/b>, NULL, 9000) = 5000
        1 sendfile(3</w/a>, 4</w/b>, [0] => [10], 10) = 10
        1 copy_file_range(4</w/b>, NULL, 3</w/a>, [8192], 5000, 0) = 5000
        1 splice(4</w/b>, NULL, 5<pipe:[77]>, NULL, 4096, 0) = 4096
        1 sendfile(6<socket:[9]>, 4</w/b>, [0] => [10], 10) = 10
        """
    )
    assert events(text) == [
        Read(0, 0, 0, 2),
        Write(0, 1, 0, 2),
        Read(0, 0, 0, 1),
        Write(0, 1, 1, 1),
        Read(0, 0, 1, 2),
        Write(0, 1, 2, 2),
        Read(0, 0, 2, 2),
        Read(0, 0, 0, 1),
    ]


def test_only_regular_files_count() -> None:
    text = """
        1 openat(AT_FDCWD</w>, "/proc/self/maps", O_RDONLY) = 3</proc/1/maps>
        1 read(3</proc/1/maps>, ""..., 4096) = 4096
        1 openat(AT_FDCWD</w>, ".", O_RDONLY|O_DIRECTORY) = 4</w>
        1 fsync(4</w>) = 0
        1 openat(AT_FDCWD</w>, "dir", O_RDONLY) = 5</w/dir>
        1 fsync(5</w/dir>) = 0
        1 openat(AT_FDCWD</w>, "fifo", O_RDONLY) = 6</w/fifo>
        1 read(6</w/fifo>, ""..., 10) = 10
        1 openat(AT_FDCWD</w>, "told", O_RDONLY) = 7</w/told>
        1 fstat(7</w/told>, {st_mode=S_IFIFO|0600, st_size=0, ...}) = 0
        1 read(7</w/told>, ""..., 10) = 10
        1 read(0<pipe:[1]>, ""..., 10) = 10
        1 write(1</dev/pts/0>, ""..., 10) = 10
        1 openat(AT_FDCWD</w>, "/dev/shm/s", O_RDWR|O_CREAT) = 8</dev/shm/s>
        1 write(8</dev/shm/s>, ""..., 10) = 10
        """
    trace = recorded(text, sizes={"/w/fifo": NOT_REGULAR, "/w/dir": NOT_REGULAR})
    assert list(trace.events()) == [Write(0, 0, 0, 1)]
    assert [file.name for file in trace.files] == ["/dev/shm/s"]


def test_inherited_and_unseen_descriptors() -> None:
    text = """
        1 read(0</w/in>, ""..., 100) = 100
        1 write(1</w/out>, ""..., 100) = 100
        1 read(9</w/passed>, ""..., 100) = 100
        1 read(9</w/other>, ""..., 100) = 100
        """
    inherited: Inherited = {0: ("/w/in", 4096, False), 1: ("/w/out", 0, True)}
    trace = recorded(text, inherited=inherited, sizes={"/w/out": 4196})
    assert list(trace.events()) == [
        Read(0, 0, 1, 1),
        Write(0, 1, 1, 1),
        Read(0, 2, 0, 1),
        Read(0, 3, 0, 1),
    ]


# Names


def test_truncation() -> None:
    text = (
        OPEN
        + """
        1 write(3</w/a>, ""..., 20000) = 20000
        1 ftruncate(3</w/a>, 4097) = 0
        1 ftruncate(3</w/a>, 5000) = 0
        1 truncate("a", 0) = 0
        1 ftruncate(3</w/a>, 40960) = 0
        1 fallocate(3</w/a>, 0, 40960, 4096) = 0
        1 fallocate(3</w/a>, FALLOC_FL_KEEP_SIZE, 0, 999999) = 0
        1 openat(AT_FDCWD</w>, "a", O_WRONLY|O_TRUNC) = 4</w/a>
        1 openat(AT_FDCWD</w>, "new", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 5</w/new>
        1 write(5</w/new>, ""..., 1) = 1
        """
    )
    trace = recorded(text)
    assert list(trace.events()) == [
        Write(0, 0, 0, 5),
        Truncate(0, 0, 2),
        Truncate(0, 0, 0),
        Truncate(0, 0, 10),
        Truncate(0, 0, 11),
        Truncate(0, 0, 0),
        Write(0, 1, 0, 1),
    ]
    assert [(file.pages, file.initial_pages) for file in trace.files] == [(11, 0), (1, 0)]


def test_a_file_read_before_it_is_emptied_had_its_pages() -> None:
    text = """
        1 openat(AT_FDCWD</w>, "a", O_RDONLY) = 3</w/a>
        1 read(3</w/a>, ""..., 9000) = 9000
        1 openat(AT_FDCWD</w>, "a", O_WRONLY|O_TRUNC) = 4</w/a>
        """
    trace = recorded(text)
    assert list(trace.events()) == [Read(0, 0, 0, 3), Truncate(0, 0, 0)]
    assert trace.files[0].initial_pages == 3


def test_an_unlinked_file_ends_with_its_last_use() -> None:
    text = (
        OPEN
        + """
        1 write(3</w/a>, ""..., 10) = 10
        1 unlink("a") = 0
        1 openat(AT_FDCWD</w>, "a", O_RDWR|O_CREAT, 0666) = 4</w/a>
        1 write(4</w/a>, ""..., 5000) = 5000
        1 lseek(3</w/a>, 0, SEEK_SET) = 0
        1 read(3</w/a>(deleted), ""..., 10) = 10
        1 close(3</w/a>) = 0
        1 unlinkat(AT_FDCWD</w>, "a", 0) = 0
        1 unlinkat(AT_FDCWD</w>, "somedir", AT_REMOVEDIR) = 0
        1 sync() = 0
        """
    )
    assert events(text) == [
        Write(0, 0, 0, 1),
        Write(0, 1, 0, 2),
        Read(0, 0, 0, 1),
        Unlink(0, 0),
        Unlink(0, 1),
        Sync(0),
    ]


def test_a_temporary_file_without_a_name() -> None:
    text = """
        1 openat(AT_FDCWD</w>, "/tmp", O_RDWR|O_TMPFILE, 0600) = 3</tmp/#12>(deleted)
        1 write(3</tmp/#12>(deleted), ""..., 10) = 10
        """
    assert events(text) == [Write(0, 0, 0, 1), Unlink(0, 0)]


def test_renaming_keeps_the_file_and_drops_what_it_replaces() -> None:
    text = (
        OPEN
        + """
        1 write(3</w/a>, ""..., 10) = 10
        1 openat(AT_FDCWD</w>, "d/b", O_RDWR|O_CREAT|O_EXCL, 0666) = 4</w/d/b>
        1 write(4</w/d/b>, ""..., 10) = 10
        1 rename("a", "d/b") = 0
        1 rename("d", "e") = 0
        1 write(3</w/e/b>, ""..., 5000) = 5000
        1 openat(AT_FDCWD</w>, "e/b", O_RDONLY) = 5</w/e/b>
        1 read(5</w/e/b>, ""..., 10) = 10
        1 chdir("e") = 0
        1 renameat2(AT_FDCWD</w/e>, "b", AT_FDCWD</w/e>, "c", RENAME_NOREPLACE) = 0
        1 truncate("c", 0) = 0
        """
    )
    trace = recorded(text)
    assert list(trace.events()) == [
        Write(0, 0, 0, 1),
        Write(0, 1, 0, 1),
        Unlink(0, 1),
        Write(0, 0, 0, 2),
        Read(0, 0, 0, 1),
        Truncate(0, 0, 0),
    ]
    assert [file.name for file in trace.files] == ["/w/e/c", "/w/d/b"]


def test_exchanged_names() -> None:
    text = """
        1 openat(AT_FDCWD</w>, "a", O_RDWR|O_CREAT|O_EXCL, 0666) = 3</w/a>
        1 openat(AT_FDCWD</w>, "b", O_RDWR|O_CREAT|O_EXCL, 0666) = 4</w/b>
        1 write(3</w/a>, ""..., 1) = 1
        1 write(4</w/b>, ""..., 1) = 1
        1 renameat2(AT_FDCWD</w>, "a", AT_FDCWD</w>, "b", RENAME_EXCHANGE) = 0
        1 unlink("a") = 0
        """
    assert events(text)[-1] == Unlink(0, 1)


# Mappings

MAPPED = (
    OPEN
    + """
    1 write(3</w/a>, ""..., 40960) = 40960
    1 mmap(NULL, 40960, PROT_READ|PROT_WRITE, MAP_SHARED, 3</w/a>, 0) = 0x10000
    1 close(3</w/a>) = 0
    """
)


def test_mappings_are_cut_and_end_with_their_last_page() -> None:
    text = (
        MAPPED
        + """
        1 msync(0x11000, 4097, MS_SYNC) = 0
        1 munmap(0x12000, 4096) = 0
        1 mmap(0x10000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x10000
        1 munmap(0x10000, 999424) = 0
        """
    )
    assert events(text)[1:] == [
        Map(0, 0, 0, 0, 10, writable=True),
        Msync(0, 0, 0, 1, 2),
        Unmap(0, 0, 0, 2, 1, last=False),
        Unmap(0, 0, 0, 0, 1, last=False),
        Unmap(0, 0, 0, 1, 1, last=False),
        Unmap(0, 0, 0, 3, 7, last=True),
    ]


def test_private_and_reserved_mappings_and_the_end_of_the_file() -> None:
    text = """
        1 openat(AT_FDCWD</w>, "lib", O_RDONLY) = 3</w/lib>
        1 fstat(3</w/lib>, {st_mode=S_IFREG|0755, st_size=9000, ...}) = 0
        1 mmap(NULL, 65536, PROT_READ|PROT_WRITE, MAP_PRIVATE, 3</w/lib>, 0x1000) = 0x10000
        1 mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE, 3</w/lib>, 0) = 0x40000
        1 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3</w/lib>, 0x3000) = 0x60000
        1 msync(0x10000, 4096, MS_SYNC) = 0
        1 munmap(0x10000, 65536) = 0
        """
    trace = recorded(text)
    assert list(trace.events()) == [
        Map(0, 0, 0, 1, 2, writable=False),
        Unmap(0, 0, 0, 1, 2, last=True),
    ]
    assert trace.files[0].initial_pages == 3


def test_a_mapped_file_whose_size_no_call_showed_is_probed() -> None:
    text = """
        1 openat(AT_FDCWD</w>, "lib", O_RDONLY) = 3</w/lib>
        1 mmap(NULL, 65536, PROT_READ, MAP_SHARED, 3</w/lib>, 0) = 0x10000
        """
    assert events(text, sizes={"/w/lib": 5000}) == [Map(0, 0, 0, 0, 2, writable=False)]


def test_remapping_moves_grows_and_shrinks() -> None:
    text = (
        MAPPED
        + """
        1 mremap(0x10000, 40960, 16384, MREMAP_MAYMOVE) = 0x10000
        1 mremap(0x10000, 16384, 24576, MREMAP_MAYMOVE) = 0x80000
        1 munmap(0x80000, 16384) = 0
        1 munmap(0x84000, 8192) = 0
        """
    )
    assert events(text)[2:] == [
        Unmap(0, 0, 0, 4, 6, last=False),
        Map(0, 1, 0, 4, 2, writable=True),
        Unmap(0, 0, 0, 0, 4, last=True),
        Unmap(0, 1, 0, 4, 2, last=True),
    ]


# Processes


def test_a_child_shares_offsets_and_has_areas_of_its_own() -> None:
    text = (
        MAPPED.replace("1 close(3</w/a>) = 0", "1 lseek(3</w/a>, 0, SEEK_SET) = 0")
        + """
        2 read(3</w/a>, ""..., 4096) = 4096
        1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 2
        1 read(3</w/a>, ""..., 4096) = 4096
        2 close(3</w/a>) = 0
        2 munmap(0x10000, 40960) = 0
        2 +++ exited with 0 +++
        1 read(3</w/a>, ""..., 4096) = 4096
        1 munmap(0x10000, 40960) = 0
        1 +++ exited with 0 +++
        """
    )
    assert events(text)[2:] == [
        Fork(0, 1),
        Read(1, 0, 0, 1),
        Read(0, 0, 1, 1),
        Unmap(1, 0, 0, 0, 10, last=True),
        Exit(1),
        Read(0, 0, 2, 1),
        Unmap(0, 0, 0, 0, 10, last=True),
        Exit(0),
    ]


def test_threads_are_one_process() -> None:
    flags = "CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD"
    text = f"""
        1 clone3({{flags={flags}, exit_signal=0}} => {{parent_tid=[2]}}, 88) = 2
        2 openat(AT_FDCWD</w>, "a", O_RDWR|O_CREAT|O_EXCL) = 3</w/a>
        2 chdir("sub") = 0
        1 write(3</w/a>, ""..., 10) = 10
        2 write(3</w/a>, ""..., 5000) = 5000
        1 truncate("../a", 0) = 0
        2 +++ exited with 0 +++
        1 write(3</w/a>, ""..., 10) = 10
        1 +++ exited with 0 +++
        """
    assert events(text) == [
        Write(0, 0, 0, 1),
        Write(0, 0, 0, 2),
        Truncate(0, 0, 0),
        Write(0, 0, 1, 1),
        Exit(0),
    ]


def test_execve_ends_the_areas_of_the_process_alone() -> None:
    text = (
        MAPPED
        + """
        1 vfork( <unfinished ...>
        2 execve("/bin/true", [...], 0x7f /* 3 vars */ <unfinished ...>
        1 <... vfork resumed>) = 2
        2 <... execve resumed>) = 0
        2 execve("/bin/none", [...], 0x7f) = -1 ENOENT (No such file or directory)
        2 +++ exited with 0 +++
        1 munmap(0x10000, 40960) = 0
        """
    )
    assert events(text)[2:] == [
        Fork(0, 1),
        Exec(1),
        Exit(1),
        Unmap(0, 0, 0, 0, 10, last=True),
    ]


def test_execve_in_a_thread_goes_on_under_the_leaders_id() -> None:
    text = (
        OPEN
        + """
        1 clone(child_stack=0x1, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 2
        2 execve("/bin/true", [...], 0x7f /* 3 vars */ <unfinished ...>
        1 +++ superseded by execve in pid 2 +++
        1 <... execve resumed>) = 0
        1 write(3</w/a>, ""..., 10) = 10
        1 +++ exited with 0 +++
        """
    )
    assert events(text) == [Write(0, 0, 0, 1), Exit(0)]


def test_calls_of_a_process_that_came_from_nowhere_are_left_out_and_counted() -> None:
    recorder = Recorder(lambda path: None, "/w")
    recorder.read([OPEN, '1 write(3</w/a>, "", 1) = 1\n', '7 write(3</w/a>, "", 1) = 1\n'])
    assert recorder.lost_count == 1
    assert len(recorder.finish(lambda path, number: path, "")) == 1


# Real programs


@needs_strace
def test_a_real_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(
        "import mmap, os\n"
        "fd = os.open('data, (1)', os.O_RDWR | os.O_CREAT)\n"
        "os.write(fd, bytes(20000)); os.lseek(fd, 4096, 0)\n"
        "if os.fork() == 0:\n"
        "    os.read(fd, 4096); os._exit(0)\n"
        "os.wait(); os.read(fd, 1)\n"
        "with mmap.mmap(fd, 8192) as m:\n"
        "    m[0] = 1; m.flush()\n"
        "os.fsync(fd); os.ftruncate(fd, 1); os.unlink('data, (1)'); os._exit(5)\n"
    )
    done = record([sys.executable, "-S", "-E", "program.py"])
    assert done.status == 5
    assert done.lost_count == 0
    number = next(n for n, file in enumerate(done.trace.files) if file.name == "data, (1)")
    assert not any(file.name.startswith("/") for file in done.trace.files)
    (child,) = [event.child for event in done.trace.events() if isinstance(event, Fork)]
    area = next(
        event.area
        for event in done.trace.events()
        if isinstance(event, Map) and event.file == number
    )
    assert [event for event in done.trace.events() if getattr(event, "file", -1) == number] == [
        Write(0, number, 0, 5),
        Read(child, number, 1, 1),
        Read(0, number, 2, 1),
        Map(0, area, number, 0, 2, writable=True),
        Msync(0, area, number, 0, 2),
        Unmap(0, area, number, 0, 2, last=True),
        Fsync(0, number),
        Truncate(0, number, 1),
        Unlink(0, number),
    ]


@needs_strace
def test_a_killed_program_and_anonymous_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = record(["sh", "-c", "echo x > secret; cat secret; kill -9 $$"], anonymous=True)
    assert done.status == 128 + 9
    assert {file.name for file in done.trace.files} == {
        f"file-{number}" for number in range(len(done.trace.files))
    }


def test_without_strace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(TraceError, match="needs strace"):
        record(["true"])


@needs_strace
def test_no_such_command() -> None:
    with pytest.raises(TraceError, match="no such command"):
        record(["no-command-of-this-name"])


def test_a_strace_that_may_not_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "strace"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(TraceError, match="strace saw no file access"):
        record(["true"])


@needs_strace
@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="sqlite3 is not installed")
def test_the_shipped_workload_records_again(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "docs" / "traces" / "sqlite.sh"
    essa = [sys.executable, "-c", "from essa_cli.main import main; main()"]
    done = subprocess.run(
        [*essa, "trace", "record", "-o", "again.essa-trace", "--", "sh", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "again.essa-trace: " in done.stderr
    assert done.stdout.splitlines()[-1].isdigit()
