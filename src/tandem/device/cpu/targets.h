// The instruction sets that kernels are compiled for; the best one the processor has is chosen when
// the program runs. Include before anything of Highway. The ones left out would only add build
// time: processors without AVX2 run the baseline, and those between AVX-512 levels the common one.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
