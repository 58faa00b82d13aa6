"""`python -m tests.htcondor_attributes GIT_DIRECTORY`: list the attributes that HTCondor reads.

Reads a clone of HTCondor's repository, at HEAD, and writes
`swarm_runner/model/htcondor_attributes.txt`: the names in condor_attributes.h and in the manual's
list of job attributes, and those that the daemons look up or assign by a literal name.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "swarm_runner" / "model" / "htcondor_attributes.txt"
HEADER = "src/condor_includes/condor_attributes.h"
MANUAL = "docs/classad-attributes/job-classad-attributes.rst"
DAEMONS = ("shadow.V6.1", "starter.V6.1", "schedd.V6", "startd.V6", "utils")
_DEFINED = re.compile(r'^\s*#define\s+ATTR_\w+\s[^"\n]*"([A-Za-z_]\w*)"', re.MULTILINE)
_DOCUMENTED = re.compile(r":classad-attribute-def:`(\w+)`")
_USED = re.compile(
    r"(?:Lookup(?:String|Integer|Bool|Float|Expr)|Evaluate?Attr\w*|Eval\w+|Assign\w*)"
    r'\s*\(\s*"([A-Za-z_]\w+)"'
)


def main() -> None:
    """Write the list."""
    git = ("git", f"--git-dir={sys.argv[1]}")
    text = subprocess.run(
        [*git, "show", f"HEAD:{HEADER}"], check=True, capture_output=True, text=True
    ).stdout
    manual = subprocess.run(
        [*git, "show", f"HEAD:{MANUAL}"], check=True, capture_output=True, text=True
    ).stdout
    # `git grep` has no match in some directories, and a clone may lack large files.
    used = subprocess.run(
        [*git, "grep", "-hE", r'(Lookup|Eval|Assign)\w*\s*\(\s*"', "HEAD", "--"]
        + [f"src/condor_{name}" for name in DAEMONS],
        check=False,
        capture_output=True,
        text=True,
    ).stdout
    names = {*_DEFINED.findall(text), *_DOCUMENTED.findall(manual), *_USED.findall(used)}
    unique = {name.lower(): name for name in sorted(names, reverse=True)}
    TARGET.write_text("\n".join(unique[name] for name in sorted(unique)) + "\n")


if __name__ == "__main__":
    main()
