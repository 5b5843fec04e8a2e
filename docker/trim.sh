#!/bin/sh
# Deletes from .venv what the image never loads: trim.sh GPU EXTRAS
# The last build step, docker/probe.py, uses what is left.
set -eu
gpu=$1
extras=$2
cd .venv/lib/python3*/site-packages

# Headers and static libraries are for compilers, stubs for type checkers, source maps for debuggers.
rm -rf tensorflow/include torch/include nvidia/*/include triton/backends/nvidia/include
rm -rf openvino/include openvino/cmake numpy/_core/include numpy/random/lib pyarrow/include
find . \( -name '*.a' -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.map' \) -delete
# Tests of their own.
rm -rf pandas/tests pyarrow/tests numpy/tests numpy/*/tests numpy/f2py numpy/distutils
rm -rf pandas/conftest.py numpy/conftest.py grpc_tools

if [ "$gpu" = no ]; then
    # Libraries of torch's default build that are loaded with the first GPU kernel, so never here.
    # Those that the loader needs at `import torch` have to stay.
    rm -f nvidia/cudnn/lib/libcudnn_*.so.* nvidia/nvshmem/lib/*.bc nvidia/nvshmem/lib/nvshmem_transport_*.so.* \
        nvidia/cu13/lib/libcusolverMg.so.* nvidia/cu13/lib/libnvperf_*.so
fi

case ",$extras," in *,accelerate,*) ;; *)
    # Bundles are IR for the CPU: no other plugin, no other frontend, no table for the GPU's compiler.
    rm -f openvino/libs/libopenvino_intel_gpu_plugin.so openvino/libs/libopenvino_intel_npu_plugin.so \
        openvino/libs/libopenvino_auto_*plugin.so openvino/libs/libopenvino_hetero_plugin.so \
        openvino/libs/libopenvino_onnx_frontend.so.* openvino/libs/libopenvino_paddle_frontend.so.* \
        openvino/libs/libopenvino_pytorch_frontend.so.* openvino/libs/libopenvino_tensorflow*_frontend.so.* \
        openvino/libs/libopenvino_jax_frontend.so.* openvino/libs/cache.json
    ;;
esac

case ",$extras," in *,frontend,*)
    # Arrow's servers and cloud stores. The rest is linked to libarrow_python.
    rm -f pyarrow/libarrow_flight.so.* pyarrow/libarrow_s3.so.* pyarrow/libarrow_python_flight.so* \
        pyarrow/_flight.* pyarrow/_s3fs.* pyarrow/libgandiva.so.* pyarrow/gandiva.*
    ;;
esac
