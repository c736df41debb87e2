"""The operations of :mod:`mmmaskfree.ops.kernels` as Triton kernels, for CUDA.

Each module has the functions of the plain torch module of its name. With
``TRITON_INTERPRET=1`` in the environment before triton is first imported, the same
kernels run on tensors of the CPU, slowly: that is how they are tested without a GPU.

The first call with a list of offsets or of pairs of frames copies it to the device, and
the first with a dtype compiles; from then on nothing here waits for the device. No sum
depends on the order in which programs finish: kernels write each element once and use
no atomic operation.
"""
