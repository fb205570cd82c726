#!/usr/bin/env bash
# What: lines that a program prints above its bars by MultiProgress::println of the
#   crate indicatif 0.18.6, where standard error is a terminal with TERM=dumb (a shell
#   within an editor, a terminal that a continuous integration gives its jobs).
# Guess: as this program's code had it: where std::io::IsTerminal says that it is a
#   terminal, the lines come, with bars or without.
# Behavior: nothing comes. indicatif hides its bars there, println of hidden bars drops
#   the line and returns Ok, and IsTerminal, by which programs decide between bars and
#   plain lines, says that it is a terminal. With TERM=xterm all lines come.
# TARRL: asks indicatif whether the bars are hidden, and writes lines itself if so.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cargo_with 'indicatif = "=0.18.6"' <<'RS'
use indicatif::{MultiProgress, ProgressBar};
use std::io::IsTerminal;

fn main() {
    let all = MultiProgress::new();
    let bar = all.add(ProgressBar::new(2));
    let printed = all.println("job 1 FAILED");
    bar.finish_and_clear();
    println!("terminal {}, hidden {}, println {printed:?}", std::io::stderr().is_terminal(), all.is_hidden());
}
RS
[ -z "${FINDINGS_PREPARE:-}" ] || exit 0
python3 - "$PROGRAM" <<'PY' || changed "the lines above hidden bars come or are refused"
import os
import pty
import subprocess
import sys


def run(term):
    """What the program writes to a terminal as its standard error, and what it says on its standard output."""
    ours, theirs = pty.openpty()
    done = subprocess.run([sys.argv[1]], stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": term}, text=True)
    os.write(theirs, b"END")
    shown = b""
    while b"END" not in shown:
        shown += os.read(ours, 4096)
    return shown.decode(), done.stdout.strip()


for term in ("xterm", "dumb"):
    shown, said = run(term)
    print(f"TERM={term}: {said}; the line is shown: {'FAILED' in shown}")
    assert said == f"terminal true, hidden {str(term == 'dumb').lower()}, println Ok(())"
    assert ("FAILED" in shown) == (term == "xterm")
PY
