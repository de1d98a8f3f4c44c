"""fairplay aligns language models by self-play and preference optimisation, and judges them fairly.

Importing this package loads neither torch nor transformers; each room is imported where it is used. The OpenMP setting
below must be in the environment before torch starts its threads, so it stands here, in the first file that runs.
"""

import logging
import os

# Waiting OpenMP threads spin by default: beside one busy process a tiny model then trains 30 times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# transformers imports torchao wherever it is installed, and a CPU would then be told which CUDA parts it can't load.
logging.getLogger("torchao").setLevel(logging.ERROR)
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
# peft imports bitsandbytes, which then looks for a faster kernel on the hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"
