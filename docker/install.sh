#!/bin/sh
# Installs the packages of both images in their build stage: install.sh EXTRAS
# Reads the build arguments GPU and PIP_..., and pyproject.toml, requirements.lock and cpu-excludes.txt in /app.
set -eu
extras=$1
cpu_tensorflow=$(sed -n 's/^tensorflow==/tensorflow-cpu==/p' requirements.lock)

set -- --extras "$extras" --dependencies-only --gpu "$GPU" --uv "$(command -v uv)" --link-mode copy
[ -z "${PIP_INDEX_URL:-}" ] || set -- "$@" --default-index "$PIP_INDEX_URL"
[ -z "${PIP_EXTRA_INDEX_URL:-}" ] || set -- "$@" --index "$PIP_EXTRA_INDEX_URL"
[ -z "${PIP_FIND_LINKS:-}" ] || set -- "$@" --find-links "$PIP_FIND_LINKS"
[ -z "${PIP_TRUSTED_HOST:-}" ] || set -- "$@" --allow-insecure-host "$PIP_TRUSTED_HOST"
if [ "$GPU" = no ]; then
    set -- "$@" --excludes cpu-excludes.txt
    case ",$extras," in *,tensorflow,*) set -- "$@" "$cpu_tensorflow" ;; esac
fi
mkdir -p scripts
mv environment.py scripts/
python scripts/environment.py "$@"

cd .venv/lib/python3*/site-packages
# Headers and static libraries are for compilers.
rm -rf tensorflow/include torch/include nvidia/*/include triton/backends/nvidia/include
find nvidia -name '*.a' -delete 2>/dev/null || true
if [ "$GPU" = no ]; then
    # Libraries of torch's default build that are loaded with the first GPU kernel, so never here.
    # Those that the loader needs at `import torch` have to stay.
    rm -f nvidia/cudnn/lib/libcudnn_*.so.* nvidia/nvshmem/lib/*.bc nvidia/nvshmem/lib/nvshmem_transport_*.so.* \
        nvidia/cu13/lib/libcusolverMg.so.* nvidia/cu13/lib/libnvperf_*.so
fi
cd /app
case ",$extras," in *,torch,*)
    # Both frameworks compute something, so that the build fails if too much was removed.
    .venv/bin/python -c 'import torch; torch.nn.Linear(2, 2)(torch.nn.Conv2d(1, 2, 3)(torch.ones(1, 1, 3, 3)).flatten(1))'
    .venv/bin/python -c 'import tensorflow as tf; tf.function(tf.nn.softmax)(tf.ones([2, 2]))'
    ;;
esac
