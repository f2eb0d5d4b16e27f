"""Delivers a run to Azure ML with a token that the real azure-identity finds.

Usage: `azureml_identity.py FOLDER_OF_PACKAGES RUN_DIR TRACKING_URI`.
"""

import sys
from pathlib import Path

sys.path.append(sys.argv[1])  # last, so that everything else stays ours

from bus import sync_run
from sinks.azureml import AzureMLSink
from tests.servers.journals import QUICK


def main():
    """Exit with 1 unless everything arrived."""
    sink = AzureMLSink(tracking_uri=sys.argv[3])
    (account,) = sync_run(Path(sys.argv[2]), [sink], pace=QUICK, timeout=60)
    sys.stderr.write(f"{account}\n")
    sys.exit(not account.complete)


if __name__ == "__main__":
    main()
