// What a user's mistake must be answered with: one InputError, one line, naming what is wrong.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tandem/base/error.h"

namespace tandem {

template <class Function>
std::string refusal(Function function) {
  try {
    function();
  } catch (const InputError& e) {
    const std::string message = e.what();
    EXPECT_EQ(message.find('\n'), message.npos) << message;
    return message;
  }
  return "no refusal";
}

}  // namespace tandem
