#include "tandem/train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tandem/base/durable.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/model/safetensors.h"
#include "tandem/runtime/steps.h"
#include "tandem/state/model_writer.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

const char* suffix(PieceState state) {
  return state == PieceState::first_moment    ? "first_moment"
         : state == PieceState::second_moment ? "second_moment"
                                              : "master";
}

// A dense model's routers have no name in a model file.
std::string stored_name(const Parameter& p, PieceState state) {
  const std::string name = p.name.empty() ? fmt::format("layers.{}.router", p.id.layer) : p.name;
  return name + "." + suffix(state);
}

using ById = std::map<ParameterId, Parameter>;

ById parameters_by_id(const ModelConfig& model) {
  ById by_id;
  for (const Parameter& p : parameters(model)) by_id[p.id] = p;
  return by_id;
}

// Writes rows of a parameter, of which `t` is a region.
void write_region(const SafetensorsWriter& writer, const std::string& name, const Parameter& p,
                  const Region& region, const Tensor& t) {
  const int64_t size = size_of(t.dtype);
  for (int64_t row = 0; row < t.rows; ++row)
    writer.write(name, size * ((region.rows.begin + row) * p.cols + region.cols.begin),
                 {t.row_bytes(row), static_cast<size_t>(size * t.cols)});
}

void write_model(Engine& engine, const fs::path& path) {
  const ParameterStore& store = engine.store();
  std::vector<TensorToStore> tensors;
  for (const Parameter& p : parameters(engine.model()))
    if (!p.name.empty()) tensors.push_back(tensor_to_store(p, store.dtype()));
  SafetensorsWriter writer(path, tensors, {{"format", "pt"}});
  const ById by_id = parameters_by_id(engine.model());
  engine.fetch(PieceState::weight, [&](const Region& region, const Tensor& t) {
    const Parameter& p = by_id.at(region.id);
    if (!p.name.empty()) write_region(writer, p.name, p, region, t);
  });
  writer.close();
}

void write_optimizer(Engine& engine, const fs::path& path) {
  const std::vector<PieceState> states = optimizer_states(engine.store().dtype());
  std::vector<TensorToStore> tensors;
  for (const Parameter& p : parameters(engine.model()))
    for (const PieceState state : states)
      tensors.push_back({stored_name(p, state), StoredType::f32, p.stored_shape()});
  SafetensorsWriter writer(path, tensors);
  const ById by_id = parameters_by_id(engine.model());
  for (const PieceState state : states)
    engine.fetch(state, [&](const Region& region, const Tensor& t) {
      const Parameter& p = by_id.at(region.id);
      write_region(writer, stored_name(p, state), p, region, t);
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
  sync_directory(run);
  auto all = checkpoints(run);
  while (all.size() > 2) {
    fs::remove_all(all.front().second);
    all.erase(all.begin());
  }
}

}  // namespace

void take_tokenizer(const fs::path& model, const fs::path& run) {
  fs::create_directories(run);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "chat_template.jinja"})
    if (fs::exists(model / name))
      fs::copy_file(model / name, run / name, fs::copy_options::overwrite_existing);
}

void save_checkpoint(Engine& engine, const TrainerState& state, const fs::path& run) {
  const fs::path checkpoint = run / fmt::format("checkpoint-{}", state.step);
  const fs::path partial = checkpoint.string() + ".partial";
  try {
    fs::create_directories(run);
    fs::remove_all(partial);
    fs::create_directory(partial);
    take_tokenizer(run, partial);
    write_model(engine, partial / "model.safetensors");
    write_optimizer(engine, partial / "optimizer.safetensors");
    write_durably(partial / "config.json", config_json(engine.model()));
    write_durably(partial / "trainer.json",
                  nlohmann::json{{"step", state.step}, {"seed", state.seed}}.dump(2) + "\n");
    sync_directory(partial);
    publish(run, partial, checkpoint);
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
    if (dynamic_cast<const StateLost*>(&error)) throw;
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
  const ById by_id = parameters_by_id(engine.model());
  engine.send_optimizer([&](const Region& region, PieceState state) {
    const Parameter& p = by_id.at(region.id);
    const StoredTensor* stored = file.find(stored_name(p, state));
    if (!stored || stored->elements() != p.elements() || stored->dtype != StoredType::f32)
      throw InputError("{}: {} is missing or of another shape", file.path().string(),
                       stored_name(p, state));
    return view_of(stored->data, p.rows, p.cols, DType::f32)
        .slice_rows(region.rows)
        .slice_cols(region.cols);
  });
}

TrainerState restore_checkpoint(Engine& engine, const fs::path& checkpoint) {
  const auto device = make_cpu_device(1);
  engine.send_weights(ParameterStore::load(std::make_shared<ModelFiles>(checkpoint),
                                           engine.store().dtype(), true, *device));
  load_optimizer(engine, checkpoint);
  return load_trainer_state(checkpoint);
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
