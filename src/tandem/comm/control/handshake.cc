#include "tandem/comm/control/handshake.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <vector>

#include "tandem/base/error.h"

namespace tandem {
namespace {

std::string hex(const unsigned char* bytes, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

}  // namespace

std::string random_hex(int bytes) {
  std::vector<unsigned char> drawn(static_cast<size_t>(bytes));
  TANDEM_CHECK(RAND_bytes(drawn.data(), bytes) == 1, "no random bytes");
  return hex(drawn.data(), drawn.size());
}

std::string proof_of(const std::string& secret, const std::string& nonce, int process) {
  const std::string text = fmt::format("{}:{}", nonce, process);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data(), &size);
  return hex(digest.data(), size);
}

}  // namespace tandem
