"""The operations of :mod:`mmmaskfree.ops.kernels` as Triton kernels, for CUDA.

Each module has the functions of the plain torch module of its name. With
``TRITON_INTERPRET=1`` in the environment before triton is first imported, the same
kernels run on tensors of the CPU, slowly: that is how they are tested without a GPU.

Nothing here waits for the device, and no sum depends on the order in which programs
finish: kernels write each element once and use no atomic operation.
"""
