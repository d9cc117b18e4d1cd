#include "router/text/client_json.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "router/text/json_text.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kNumberBeyondDouble = 406;  // nlohmann's id of this error

// Builds what nlohmann's parser reports, without the search for a key that its objects make at each
// member; each method says whether to go on.
class BoundedSax : public nlohmann::json_sax<Json> {
 public:
  BoundedSax(std::string_view text, const ClientJsonSource& source)
      : text_(text), source_(source) {}

  absl::StatusOr<Json> Take() {
    if (!status_.ok()) return status_;
    return std::move(root_);
  }

  bool null() override { return Put(nullptr) != nullptr; }
  bool boolean(bool value) override { return Put(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return Put(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return Put(value) != nullptr; }
  bool number_float(number_float_t value, const string_t& spelling) override {
    if (spelling.find_first_of(".eE") == std::string::npos) return RefuseNumber(spelling);
    return Put(value) != nullptr;
  }
  bool string(string_t& value) override { return Put(std::move(value)) != nullptr; }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(std::size_t /*elements*/) override { return Open(Json::object()); }
  bool key(string_t& value) override {
    Frame& frame = frames_.back();
    frame.key = std::move(value);
    if (frame.places.size() < kMaxJsonMembers || frame.places.contains(frame.key)) return true;
    return Refuse(Path(frames_.size() - 1), "an object",
                  absl::StrCat("it has more than ", kMaxJsonMembers, " members"),
                  "send fewer members");
  }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t /*elements*/) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }
  bool parse_error(std::size_t /*position*/,
                   const std::string& token,
                   const nlohmann::detail::exception& error) override {
    if (error.id == kNumberBeyondDouble) return RefuseNumber(token);
    return Refuse(source_.field, text_.empty() ? "empty" : text_, "it is no JSON", source_.remedy);
  }

 private:
  // A list or object that is open.
  struct Frame {
    Json* value;
    std::string key;                                  // of the member that comes next
    absl::flat_hash_map<std::string, size_t> places;  // of the members, by key
  };

  // Puts `value` where the text is. Null where there are too many.
  Json* Put(Json value) {
    if (++num_values_ > source_.max_values) {
      Refuse(source_.field, absl::StrCat(text_.size(), " bytes"),
             absl::StrCat("it has more than ", source_.max_values, " values"), "send fewer values");
      return nullptr;
    }
    if (frames_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Frame& frame = frames_.back();
    if (auto* list = frame.value->get_ptr<Json::array_t*>()) {
      return &list->emplace_back(std::move(value));
    }
    auto& members = frame.value->get_ref<Json::object_t&>();
    const auto [place, is_new] = frame.places.try_emplace(frame.key, members.size());
    if (is_new) return &members.emplace_back(frame.key, std::move(value)).second;
    Json& member = (members.begin() + static_cast<ptrdiff_t>(place->second))->second;
    member = std::move(value);
    return &member;
  }

  bool Open(Json empty) {
    if (frames_.size() >= static_cast<size_t>(kMaxJsonDepth)) {
      return Refuse(
          source_.field, absl::StrCat(text_.size(), " bytes"),
          absl::StrCat("it has more than ", kMaxJsonDepth, " lists and objects inside one another"),
          "nest it less deeply");
    }
    Json* const value = Put(std::move(empty));
    if (value == nullptr) return false;
    frames_.push_back({.value = value, .key = "", .places = {}});
    return true;
  }
  bool Close() {
    frames_.pop_back();
    return true;
  }

  // The name of what stands inside the outer `num_frames`.
  std::string Path(size_t num_frames) const {
    std::string path = source_.members_are_fields ? "" : source_.field;
    for (size_t i = 0; i < num_frames; ++i) {
      const Frame& frame = frames_[i];
      if (frame.value->is_array()) {
        const bool has_it = i + 1 < frames_.size();  // else it comes next
        absl::StrAppend(&path, "[", frame.value->size() - (has_it ? 1 : 0), "]");
      } else {
        absl::StrAppend(&path, path.empty() ? "" : ".", frame.key);
      }
    }
    return path.empty() ? source_.field : path;
  }

  bool RefuseNumber(const std::string& spelling) {
    const bool is_whole = spelling.find_first_of(".eE") == std::string::npos;
    return Refuse(Path(frames_.size()), spelling,
                  is_whole ? "it is beyond 64 bits" : "it is beyond a double",
                  "send it as a string");
  }
  bool Refuse(const std::string& field,
              std::string_view value,
              const std::string& problem,
              const std::string& remedy) {
    status_ = InvalidField(field, std::string(value), problem, remedy);
    return false;
  }

  const std::string_view text_;
  const ClientJsonSource& source_;
  absl::Status status_;
  Json root_;
  std::vector<Frame> frames_;
  size_t num_values_ = 0;
};

}  // namespace

absl::StatusOr<Json> ReadClientJson(std::string_view text, const ClientJsonSource& source) {
  BoundedSax sax(text, source);
  Json::sax_parse(text.begin(), text.end(), &sax);
  return sax.Take();
}

absl::StatusOr<Json> ReadClientObject(std::string_view text, const ClientJsonSource& source) {
  DS_ASSIGN_OR_RETURN(Json value, ReadClientJson(text, source));
  if (value.is_object()) return value;
  return InvalidField(source.field, std::string(text), "it is no JSON object", source.remedy);
}

std::string DumpJson(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace deltaserve
