// Files that are on the disk, not only on their way there. WorldError, with errno's text, where
// they are not. Safe from any thread.
#pragma once

#include <filesystem>
#include <string>

namespace tandem {

void write_durably(const std::filesystem::path& file, const std::string& text);
// What a directory lists is as durable as what its files hold only once it was synced itself.
void sync_directory(const std::filesystem::path& directory);

}  // namespace tandem
