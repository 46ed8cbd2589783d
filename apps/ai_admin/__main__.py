"""`python -m ai_admin`: the command line."""

from ai_admin.cli import main

main()
