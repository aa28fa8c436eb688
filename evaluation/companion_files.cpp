#include "evaluation/companion_files.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "core/copied_file.h"

namespace drystone::evaluation {

namespace fs = std::filesystem;

namespace {

/// Weights in any format: what was merged must not lie beside what was not.
constexpr std::array<std::string_view, 16> kWeightEndings = {
    ".safetensors", ".safetensors.index.json",
    ".bin",         ".bin.index.json",
    ".pt",          ".pth",
    ".ckpt",        ".ckpt.index",
    ".h5",          ".msgpack",
    ".gguf",        ".onnx",
    ".onnx_data",   ".ot",
    ".tflite",      ".mlmodel"};

constexpr std::array<std::string_view, 9> kTokenizerFiles = {"tokenizer.json",
                                                             "tokenizer_config.json",
                                                             "special_tokens_map.json",
                                                             "added_tokens.json",
                                                             "tokenizer.model",
                                                             "vocab.json",
                                                             "merges.txt",
                                                             "vocab.txt",
                                                             "chat_template.jinja"};

bool is_weights(const std::string& name) {
  return std::any_of(kWeightEndings.begin(), kWeightEndings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

bool stays_behind(const std::string& name) {
  return name == "config.json" || name.starts_with("adapter_config") ||
         name.starts_with("adapter_model") || name.starts_with('.') || is_weights(name);
}

bool holds_weights(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (is_weights(entry.path().filename().string())) return true;
  }
  return false;
}

void copy_folder(const fs::path& from, const fs::path& out) {
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.')) continue;
    if (entry.is_directory()) {
      copy_folder(entry.path(), out / name);
    } else if (entry.is_regular_file()) {
      fs::create_directories(out);
      core::copy_content(entry.path(), out / name);
    }
  }
}

}  // namespace

void copy_companions(const fs::path& model, const fs::path& out) {
  for (const auto& entry : fs::directory_iterator(model)) {
    const std::string name = entry.path().filename().string();
    if (stays_behind(name)) continue;
    std::error_code error;
    if (fs::equivalent(entry.path(), out, error)) continue;
    if (entry.is_regular_file()) {
      core::copy_content(entry.path(), out / name);
    } else if (entry.is_directory() && !entry.is_symlink() && !name.starts_with("checkpoint-") &&
               !holds_weights(entry.path())) {
      copy_folder(entry.path(), out / name);
    }
  }
}

void copy_evaluation(const fs::path& from, const fs::path& out) {
  if (fs::exists(from / kEvaluationFile)) {
    core::copy_content(from / kEvaluationFile, out / kEvaluationFile);
  }
}

bool has_tokenizer(const fs::path& folder) {
  return std::any_of(kTokenizerFiles.begin(), kTokenizerFiles.end(), [&](std::string_view name) {
    return (name.starts_with("tokenizer.") || name.starts_with("vocab.")) &&
           fs::exists(folder / name);
  });
}

bool copy_tokenizer(const fs::path& from, const fs::path& out) {
  if (!has_tokenizer(from)) return false;
  for (const std::string_view name : kTokenizerFiles) {
    fs::remove(out / name);
    if (fs::exists(from / name)) core::copy_content(from / name, out / name);
  }
  return true;
}

}  // namespace drystone::evaluation
