"""What a launcher starts in place of `train/finetune.py`: says what it was told, and ends as it is told then.

See `launching.launch`, which reads `toldRANK.json` and writes `endedRANK`. It imports nothing that takes time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

rank = os.environ["RANK"]
written = Path(f"told{rank}.tmp")
written.write_text(json.dumps([str(Path.cwd()), sys.argv[1:], dict(os.environ)]))
written.rename(f"told{rank}.json")
ended = Path(f"ended{rank}")
while not (ended.exists() and ended.read_text()):
    time.sleep(0.01)
sys.exit(int(ended.read_text()))
