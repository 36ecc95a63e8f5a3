#include "tandem/train/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tandem/model/safetensors.h"
#include "tandem/runtime/optimizer.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

// Everything an optimizer keeps of a piece, by the name it is stored under.
struct State {
  const char* suffix;
  Tensor Optimizer::Piece::*tensor;
};
constexpr State first_moment{"first_moment", &Optimizer::Piece::first_moment};
constexpr State second_moment{"second_moment", &Optimizer::Piece::second_moment};
constexpr State master{"master", &Optimizer::Piece::master};

std::vector<State> states(const Engine& engine) {
  std::vector<State> kept{first_moment, second_moment};
  if (engine.store().dtype() != DType::f32) kept.push_back(master);
  return kept;
}

std::string stored_name(const Parameter& p, const State& state) {
  return p.name + "." + state.suffix;
}

// body(parameter, piece) for every piece that some rank updates.
template <class Body>
void for_each_piece(Engine& engine, const Body& body) {
  std::map<ParameterId, Parameter> by_id;
  for (const Parameter& p : parameters(engine.model())) by_id[p.id] = p;
  for (int rank = 0; rank < engine.plan().ranks(); ++rank)
    for (Optimizer::Piece& piece : engine.world().rank(rank).optimizer->pieces())
      body(by_id.at(piece.region.id), piece);
}

// Offset of row `row` of a region in the stored parameter, in bytes of f32.
int64_t offset_of(const Parameter& p, const Region& region, int64_t row) {
  return 4 * ((region.rows.begin + row) * p.cols + region.cols.begin);
}

void sync_path(const fs::path& path, int flags) {
  const int file = open(path.c_str(), O_RDONLY | flags);
  if (file < 0) throw_errno("cannot open " + path.string());
  const bool good = fsync(file) == 0;
  close(file);
  if (!good) throw_errno("cannot sync " + path.string());
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream stream(path);
  stream << text;
  stream.close();
  if (!stream) throw_errno("cannot write " + path.string());
  sync_path(path, 0);
}

void write_model(Engine& engine, const fs::path& path) {
  const ParameterStore& store = engine.store();
  const StoredType type = store.dtype() == DType::f32 ? StoredType::f32 : StoredType::bf16;
  std::vector<TensorToStore> tensors;
  for (const Parameter& p : parameters(engine.model()))
    tensors.push_back({p.name, type, p.stored_shape()});
  SafetensorsWriter writer(path, tensors, {{"format", "pt"}});
  for (const Parameter& p : parameters(engine.model())) {
    const Tensor t = store.whole(p.id);
    writer.write(p.name, 0, {t.data, static_cast<size_t>(t.bytes())});
  }
  writer.close();
}

void write_optimizer(Engine& engine, const fs::path& path) {
  std::vector<TensorToStore> tensors;
  for (const Parameter& p : parameters(engine.model()))
    for (const State& state : states(engine))
      tensors.push_back({stored_name(p, state), StoredType::f32, p.stored_shape()});
  SafetensorsWriter writer(path, tensors);
  for_each_piece(engine, [&](const Parameter& p, const Optimizer::Piece& piece) {
    for (const State& state : states(engine)) {
      const Tensor& t = piece.*state.tensor;
      for (int64_t row = 0; row < t.rows; ++row)
        writer.write(stored_name(p, state), offset_of(p, piece.region, row),
                     {t.row_bytes(row), static_cast<size_t>(4 * t.cols)});
    }
  });
  writer.close();
}

// A link appears, or changes what it points to, in one step.
void replace_link(const fs::path& link, const fs::path& target) {
  const fs::path temporary = link.string() + ".partial";
  fs::remove(temporary);
  fs::create_symlink(target, temporary);
  fs::rename(temporary, link);
}

std::vector<std::pair<int64_t, fs::path>> checkpoints(const fs::path& run) {
  std::vector<std::pair<int64_t, fs::path>> found;
  for (const auto& entry : fs::directory_iterator(run)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("checkpoint-") && !name.ends_with(".partial"))
      found.emplace_back(std::atoll(name.c_str() + 11), entry.path());
  }
  std::ranges::sort(found);
  return found;
}

void publish(const fs::path& run, const fs::path& partial, const fs::path& checkpoint) {
  fs::remove_all(checkpoint);
  fs::rename(partial, checkpoint);
  replace_link(run / "latest", checkpoint.filename());
  for (const char* name : {"config.json", "model.safetensors"})
    if (!fs::exists(run / name)) replace_link(run / name, fs::path("latest") / name);
  sync_path(run, O_DIRECTORY);
  auto all = checkpoints(run);
  while (all.size() > 2) {
    fs::remove_all(all.front().second);
    all.erase(all.begin());
  }
}

}  // namespace

void save_checkpoint(Engine& engine, const TrainerState& state, const fs::path& run) {
  const fs::path checkpoint = run / fmt::format("checkpoint-{}", state.step);
  const fs::path partial = checkpoint.string() + ".partial";
  try {
    fs::create_directories(run);
    fs::remove_all(partial);
    fs::create_directory(partial);
    write_model(engine, partial / "model.safetensors");
    write_optimizer(engine, partial / "optimizer.safetensors");
    write_text(partial / "config.json", config_json(engine.model()));
    write_text(partial / "trainer.json",
               nlohmann::json{{"step", state.step}, {"seed", state.seed}}.dump(2) + "\n");
    sync_path(partial, O_DIRECTORY);
    publish(run, partial, checkpoint);
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
    throw WorldError("checkpoint of step {} was not saved: {}", state.step, error.what());
  }
}

std::optional<fs::path> latest_checkpoint(const fs::path& run) {
  std::error_code error;
  const fs::path latest = fs::canonical(run / "latest", error);
  if (error) return std::nullopt;
  return latest;
}

void load_optimizer(Engine& engine, const fs::path& checkpoint) {
  const SafetensorsFile file(checkpoint / "optimizer.safetensors");
  for_each_piece(engine, [&](const Parameter& p, Optimizer::Piece& piece) {
    for (const State& state : states(engine)) {
      const StoredTensor* stored = file.find(stored_name(p, state));
      if (!stored || stored->elements() != p.elements() || stored->dtype != StoredType::f32)
        throw InputError("{}: {} is missing or of another shape", file.path().string(),
                         stored_name(p, state));
      const Tensor& t = piece.*state.tensor;
      for (int64_t row = 0; row < t.rows; ++row)
        std::memcpy(t.row_bytes(row), stored->data + offset_of(p, piece.region, row), 4 * t.cols);
    }
  });
}

TrainerState load_trainer_state(const fs::path& checkpoint) {
  const fs::path trainer = checkpoint / "trainer.json";
  try {
    const auto json = nlohmann::json::parse(std::ifstream(trainer));
    return {.step = json.at("step"), .seed = json.at("seed")};
  } catch (const nlohmann::json::exception& error) {
    throw InputError("{}: {}", trainer.string(), error.what());
  }
}

}  // namespace tandem
