"""vLLM's CUTLASS kernels for compute capability 12.x are not compiled.

Those for scaled matrix products and for NVFP4 fail at run time on a GB10 (12.1). Without them vLLM takes FlashInfer's,
Marlin's or, for FP8, the older CUTLASS ones. The text is that of vLLM 0.13 to 0.16.
"""

from __future__ import annotations

from patches.patching import Change, Patch

PATCH = Patch(
    "CMakeLists.txt",
    (
        Change(
            before="""\
    cuda_archs_loose_intersection(SCALED_MM_ARCHS "12.0f" "${CUDA_ARCHS}")
  else()
    cuda_archs_loose_intersection(SCALED_MM_ARCHS "12.0a" "${CUDA_ARCHS}")
  endif()
""",
            after="""\
    set(SCALED_MM_ARCHS)  # Hearth: not for 12.x
  else()
    set(SCALED_MM_ARCHS)
  endif()
""",
        ),
        Change(
            before="""\
    cuda_archs_loose_intersection(FP4_ARCHS "12.0f" "${CUDA_ARCHS}")
  else()
    cuda_archs_loose_intersection(FP4_ARCHS "12.0a" "${CUDA_ARCHS}")
  endif()
""",
            after="""\
    set(FP4_ARCHS)  # Hearth: not for 12.x
  else()
    set(FP4_ARCHS)
  endif()
""",
        ),
    ),
)
