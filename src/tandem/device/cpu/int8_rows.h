// Rows of activations as int8, to be multiplied with weights of int8.
#pragma once

#include "tandem/device/cpu/pack.h"

namespace tandem::cpu {

// Rows of bf16, each block of 128 numbers scaled so that its largest becomes 127, rounded to
// nearest (ties to even): a number's bits depend on its own row alone. Rows and factors (of the
// columns) are this thread's, until the next call.
RowsOf as_int8(const RowsOf& from, Int8Factors& factors);

}  // namespace tandem::cpu
