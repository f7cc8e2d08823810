"""Train MEF: identity and expression adapters for a frozen Stable Diffusion, from captioned portraits."""

from modules.errors import run_script
from modules.mef.__main__ import main

if __name__ == "__main__":
    run_script(main)
