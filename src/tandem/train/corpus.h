// Reads text to train on: a text file (one document), a file of JSON lines with a "text" field as
// in C4 (.json or .jsonl, one document a line), either of them gzipped (.gz), or a folder of such
// files, taken in the order of their names. Memory: one document at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

namespace tandem {

// Calls `document` with each document that is not empty; returns how many there were.
// InputError with the file and line: a file that is missing, not text, not JSON, without "text", a
// corrupted or cut gzip, or a corpus without any text. WorldError where reading itself fails.
int64_t read_corpus(const std::filesystem::path& path,
                    const std::function<void(std::string_view)>& document);

}  // namespace tandem
