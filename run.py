"""Train SID on a data set, rebuild its test clips, animate them by one another; measure it or MEF on the face world."""

from modules.errors import run_script
from modules.evaluation.__main__ import main

if __name__ == "__main__":
    run_script(main)
