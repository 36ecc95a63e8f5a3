#include "tandem/cost/operation_cost.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

DeviceType device() {
  return {.flops_per_second = {{"bf16", 1000}, {"f32", 100}},
          .memory_bytes_per_second = 10,
          .memory_bytes = 1,
          .compute_efficiency = 0.5,
          .memory_efficiency = 0.8,
          .operation_overhead_seconds = 3};
}

TEST(OperationSeconds, IsTheSlowerOfComputingAndReading) {
  EXPECT_DOUBLE_EQ(operation_seconds(device(), "linear", "bf16", {5000, 8}), 10 + 3);
  EXPECT_DOUBLE_EQ(operation_seconds(device(), "linear", "bf16", {5000, 800}), 100 + 3);
  EXPECT_DOUBLE_EQ(operation_seconds(device(), "linear", "f32", {5000, 8}), 100 + 3);
  EXPECT_DOUBLE_EQ(floor_seconds(device(), "bf16", {5000, 8}), 5);
}

TEST(OperationSeconds, TakesTheNextWiderDtype) {
  EXPECT_DOUBLE_EQ(peak_flops_per_second(device(), "fp8"), 1000);
  EXPECT_DOUBLE_EQ(peak_flops_per_second(device(), "int8"), 1000);
}

TEST(OperationSeconds, PrefersWhatWasMeasured) {
  DeviceType type = device();
  type.operations["linear"] = {.flops_per_second = 200, .overhead_seconds = 1};
  EXPECT_DOUBLE_EQ(operation_seconds(type, "linear", "bf16", {5000, 8}), 25 + 1);
  EXPECT_DOUBLE_EQ(operation_seconds(type, "linear", "bf16", {0, 80}), 10 + 1);
  EXPECT_DOUBLE_EQ(operation_seconds(type, "norm", "bf16", {5000, 8}), 10 + 3);
}

TEST(OperationSeconds, AddsWhatDoesNotHide) {
  DeviceType type = device();
  type.operations["linear"] = {100, 10, 1, 0.25};
  EXPECT_DOUBLE_EQ(operation_seconds(type, "linear", "bf16", {2000, 80}), 20 + 0.75 * 8 + 1);
  EXPECT_DOUBLE_EQ(operation_seconds(type, "linear", "bf16", {800, 200}), 20 + 0.75 * 8 + 1);
}

TEST(OperationSeconds, GrowsWithTheCrowd) {
  DeviceType type = device();
  type.operations["linear"] = {100, 10, 1, 1, 3};
  EXPECT_DOUBLE_EQ(operation_seconds(type, "linear", "bf16", {1500, 100}, 0), 15 + 1);
  EXPECT_DOUBLE_EQ(operation_seconds(type, "linear", "bf16", {1500, 100}, 0.5), 20 + 1);
  EXPECT_DOUBLE_EQ(operation_seconds(type, "linear", "bf16", {1500, 100}, 1), 30 + 1);
  EXPECT_DOUBLE_EQ(operation_seconds(type, "norm", "bf16", {5000, 8}, 1), 10 + 3);
}

}  // namespace
}  // namespace tandem
