#!/bin/sh
# Builds the Fission package: the functions, the product, and its dependencies from wheels with known hashes.
#
# The builder calls this with SRC_PKG (the sources) and DEPLOY_PKG (where the package goes). By hand,
# `cd apps && ./build.sh` puts the package into .local/package of the clone. Set PYTHON to choose an interpreter.
set -eu

SRC_PKG=${SRC_PKG:-$(cd "$(dirname "$0")" && pwd)}
DEPLOY_PKG=${DEPLOY_PKG:-$SRC_PKG/../.local/package}
PYTHON=${PYTHON:-python3}

rm -rf "$DEPLOY_PKG"
mkdir -p "$DEPLOY_PKG"
# Flask and what it needs come with the image, whose packages win over these: they are not in requirements.txt.
"$PYTHON" -m pip install --disable-pip-version-check --no-cache-dir --no-compile --no-deps \
  --require-hashes --only-binary :all: --requirement "$SRC_PKG/requirements.txt" --target "$DEPLOY_PKG"

cp "$SRC_PKG"/*.py "$DEPLOY_PKG"
cp -R "$SRC_PKG/ai_admin" "$DEPLOY_PKG"

# What no function imports: the single-process form, caches, type stubs, sources of compiled modules.
for name in __main__ audit/commands cli command_groups console/views/transfer demo doctor embedded health local metrics migrate \
  openapi reference server terminal vault/commands vault/ring_file vault/rotation; do
  rm -f "$DEPLOY_PKG/ai_admin/$name.py"
done
for name in client deploy migrations reference_assets transfer; do
  rm -rf "$DEPLOY_PKG/ai_admin/$name"
done
rm -rf "$DEPLOY_PKG/bin"
find "$DEPLOY_PKG" -name __pycache__ -type d -prune -exec rm -rf {} +
find "$DEPLOY_PKG" \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '*.po' \) \
  -type f -exec rm -f {} +
# Of Bootstrap-Flask the console serves one style sheet. WTForms' own languages are for fields, of which it has none.
find "$DEPLOY_PKG/flask_bootstrap" -type f ! -path '*/bootstrap5/css/bootstrap.min.css' ! -name __init__.py \
  -exec rm -f {} +
find "$DEPLOY_PKG/flask_bootstrap" -type d -empty -delete
rm -rf "$DEPLOY_PKG/wtforms/locale"
# Of Authlib the console's sign-in needs the parameters of OAuth 2 alone.
for name in integrations jose oauth1 oidc; do
  rm -rf "$DEPLOY_PKG/authlib/$name"
done
# Bytecode, or every new pod would compile it all before its first answer. The archive may give files other times.
"$PYTHON" -m compileall -q --invalidation-mode unchecked-hash "$DEPLOY_PKG"
