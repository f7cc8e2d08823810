"""Train SID: expression, pose and identity from videos and photographs, self-supervised."""

from modules.errors import run_script
from modules.sid.__main__ import main

if __name__ == "__main__":
    run_script(main)
