#!/bin/sh
# Installs the packages of an image in its build stage: install.sh GPU EXTRAS
# GPU is "yes" or "no". Reads the build arguments PIP_..., and pyproject.toml, requirements.lock and
# cpu-excludes.txt in /app; writes .venv and sbom.cdx.json there.
set -eu
gpu=$1
extras=$2
cpu_tensorflow=$(sed -n 's/^tensorflow==/tensorflow-cpu==/p' requirements.lock)

set -- --extras "$extras" --dependencies-only --gpu "$gpu" --uv "$(command -v uv)" --link-mode copy
[ -z "${PIP_INDEX_URL:-}" ] || set -- "$@" --default-index "$PIP_INDEX_URL"
[ -z "${PIP_EXTRA_INDEX_URL:-}" ] || set -- "$@" --index "$PIP_EXTRA_INDEX_URL"
[ -z "${PIP_FIND_LINKS:-}" ] || set -- "$@" --find-links "$PIP_FIND_LINKS"
[ -z "${PIP_TRUSTED_HOST:-}" ] || set -- "$@" --allow-insecure-host "$PIP_TRUSTED_HOST"
if [ "$gpu" = no ]; then
    # On arm64 the package tensorflow has no GPU kernels, and tensorflow-cpu does not exist.
    [ "$(uname -m)" = x86_64 ] || { sed -i '/^tensorflow /d' cpu-excludes.txt; cpu_tensorflow=; }
    set -- "$@" --excludes cpu-excludes.txt
    case ",$extras," in *,tensorflow,*) set -- "$@" $cpu_tensorflow ;; esac
fi
mkdir -p scripts
mv environment.py scripts/
python scripts/environment.py "$@"
trim.sh "$gpu" "$extras"
/sbom/bin/cyclonedx-py environment .venv --pyproject pyproject.toml --mc-type application \
    --output-reproducible --output-format JSON --output-file sbom.cdx.json
sbom.py sbom.cdx.json /root-status
