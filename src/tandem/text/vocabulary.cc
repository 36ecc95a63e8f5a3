#include "tandem/text/vocabulary.h"

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"

namespace tandem::text {

void Vocabulary::add(std::string token, int32_t id) {
  const auto index = static_cast<size_t>(id);
  if (index >= most_tokens_) {
    throw InputError("{}: token \"{}\" has the id {}, but there are only {} tokens", where_,
                     printable(token), id, most_tokens_);
  }
  if (index >= by_id_.size()) by_id_.resize(index + 1);
  if (by_id_[index]) {
    throw InputError("{}: tokens \"{}\" and \"{}\" both have the id {}", where_,
                     printable(*by_id_[index]), printable(token), id);
  }
  const auto [it, fresh] = by_token_.try_emplace(std::move(token), id);
  if (!fresh) {
    throw InputError("{}: token \"{}\" has the ids {} and {}", where_, printable(it->first),
                     it->second, id);
  }
  by_id_[index] = &it->first;
}

void Vocabulary::check_complete() const {
  for (size_t id = 0; id < by_id_.size(); ++id) {
    if (!by_id_[id]) {
      throw InputError("{}: no token has the id {}, though larger ids are in use", where_, id);
    }
  }
}

int32_t Vocabulary::find(std::string_view token) const {
  const auto it = by_token_.find(token);
  return it == by_token_.end() ? -1 : it->second;
}

}  // namespace tandem::text
