from typing import Any

ENGINE: Any
