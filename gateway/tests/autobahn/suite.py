"""Runs the Autobahn test suite from the folder it was installed into. Python 2.7, as the suite is."""

import site
import sys

folder = sys.argv.pop(1)
messages = int(sys.argv.pop(1))
# Not only a path: one of the packages (zope) is found through a .pth file.
site.addsitedir(folder)
# Before what the interpreter brings along: its setuptools is another one.
sys.path.insert(0, folder)

from autobahntestsuite.wstest import run
from autobahntestsuite.case import Case12_X_X, Case13_X_X

for case in Case12_X_X + Case13_X_X:
    case.COUNT = messages

run()
