#include "worker/service/description.h"

#include "kernels/base/build_info.h"
#include "proto/protocol.h"
#include "proto/text_digest.h"

namespace deltaserve {

v1::WorldDescription MakeDescription(const WorldInfo& info,
                                     const EngineCapacity& capacity,
                                     const std::string& instance_id) {
  v1::WorldDescription description;
  description.set_instance_id(instance_id);
  description.set_protocol_revision(kProtocolRevision);
  description.set_version(GetBuildInfo().version);
  v1::ServedModel* model = description.add_models();
  model->set_id(info.model_id);
  model->set_weights_fingerprint(info.weights_fingerprint);
  model->set_text_digest(TextDigest(info.text_assets));
  model->set_max_context(static_cast<uint32_t>(capacity.max_context));
  model->set_vocab_rows(static_cast<uint32_t>(capacity.vocab_rows));
  model->set_num_tokens(static_cast<uint32_t>(capacity.num_tokens));
  for (const int32_t id : info.eos_token_ids) model->add_eos_token_ids(static_cast<uint32_t>(id));
  model->set_generation_defaults_json(info.generation_defaults_json);
  for (const std::string& capability : info.capabilities) model->add_capabilities(capability);
  *description.mutable_layout() = info.layout;
  *description.mutable_numerics() = info.numerics;
  v1::Capacity* pools = description.mutable_capacity();
  pools->set_kv_blocks(static_cast<uint32_t>(capacity.kv_blocks));
  pools->set_block_tokens(info.block_tokens);
  pools->set_slots(static_cast<uint32_t>(capacity.slots));
  pools->set_max_queue(static_cast<uint32_t>(capacity.max_queue));
  pools->set_max_queue_tokens(static_cast<uint64_t>(capacity.max_queue_tokens));
  pools->set_kv_bytes_per_token(capacity.kv_bytes_per_token);
  pools->set_state_bytes_per_slot(capacity.state_bytes_per_slot);
  for (const v1::RankInfo& rank : info.ranks) *description.add_ranks() = rank;
  return description;
}

}  // namespace deltaserve
