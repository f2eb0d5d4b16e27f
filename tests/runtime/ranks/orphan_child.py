"""One rank of a job whose store is killed: steps until its run fails, and says with what."""

import sys
import time
from pathlib import Path

from bus import RanksError
from runtime import Run

FOLDER = Path(sys.argv[1])

if __name__ == "__main__":
    try:
        with Run("orphan", dir=FOLDER) as run:
            for step in range(1_000_000):
                run.safe_point(step)
                time.sleep(0.001)
                if step == 100:
                    (FOLDER / f"rank{run.rank}.going").touch()
    except RanksError as error:
        sys.exit(str(error))
