"""AI Admin: the user directory of an AI platform."""

__version__ = "0.1.0"
# Names the folder that holds secrets/ and configs/; nothing else of the settings is in the environment.
ROOT_VARIABLE = "AI_ADMIN_ROOT"
