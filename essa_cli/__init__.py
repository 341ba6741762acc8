"""The one command, `essa`: a module for each room."""

import os

# The library tells standard error of every peer that fails to greet it; read when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
