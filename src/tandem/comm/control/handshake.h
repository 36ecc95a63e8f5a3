// How a process proves to the one that leads the run that it belongs there: both know a secret,
// which does not travel (HMAC-SHA256 of a nonce and the process's number).
#pragma once

#include <string>

namespace tandem {

// Random bytes as hexadecimal digits.
std::string random_hex(int bytes);
std::string proof_of(const std::string& secret, const std::string& nonce, int process);

}  // namespace tandem
