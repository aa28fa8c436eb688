#pragma once
// What a training's result becomes before it leaves the client.

#include <string>

#include "client/contract.h"
#include "core/bytes.h"
#include "training/local_result.h"
#include "wire/messages.h"

namespace drystone::client {

struct UpdateTerms {
  std::string client;
  std::string method;              ///< informative
  bool reveals_everything = true;  ///< false: see reveal.h
};

struct Update {
  core::Bytes payload;
  Answer answer;  ///< describes it
};

/// The steps between the factors and the payload, in their order: encode, hash, describe, coarsen.
Update make_update(const training::LocalResult& result, const wire::RoundPlan& plan,
                   const UpdateTerms& terms);

}  // namespace drystone::client
