// What a device can be asked to do. An operation is a plain struct of views and sizes; a device
// runs it (device.h). `cost()` is the least work it needs, from shapes alone, the same in every
// world.
//
// Conventions. Weights are [out, in], row-major, as in checkpoints; they are read in place, whole
// or as slices of rows or columns. "Compute type" is the dtype of the weights (f32 or bf16). Sums
// are kept in f32 and run in index order; the result for a row does not depend, to the last bit, on
// which rows stand beside it or on which columns are computed with it. Views that an operation
// writes never overlap views that it reads unless said so. Host arrays (spans) must live until
// run() returns.
#pragma once

#include "tandem/device/operation/attention.h"
#include "tandem/device/operation/gradient_coding.h"
#include "tandem/device/operation/optimizer.h"
#include "tandem/device/operation/products.h"
#include "tandem/device/operation/routing.h"
#include "tandem/device/operation/rows.h"
#include "tandem/device/operation/split_norm.h"
#include "tandem/device/operation/vocabulary.h"
