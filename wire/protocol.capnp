@0xd15b1e5a7c0ffee1;
# Drystone's protocol, version 5 (docs/protocol.md). Plain C++ forms: wire/messages.h.
# Fields are only ever added at the end; a change of meaning needs a new protocol version.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("drystone::wire::schema");

# ---- signed: always the canonical form, and nothing that this version does not know ----------

struct RoundPlan {
  federation @0 :Text;
  round @1 :UInt64;
  attempt @2 :UInt64;
  baseVersion @3 :UInt64;
  baseHead @4 :Data;
  seed @5 :UInt64;
  cohort @6 :List(Text);
  start @7 :Text;
  deadlineMs @8 :UInt64;
  settings @9 :List(Data);        # digests of training settings, each once, as the cohort names them
  settingsOf @10 :List(UInt16);   # of each of the cohort: 0 none, otherwise 1 + index into settings
  rosterChange @11 :UInt64;       # number of the roster change in force; 0: none
  roster @12 :Data;               # SHA-256 of its bytes; empty: none
}

struct UpdateManifest {
  round @0 :UInt64;
  attempt @1 :UInt64;
  client @2 :Text;
  baseVersion @3 :UInt64;
  payload @4 :Data;
  payloadBytes @5 :UInt64;
  numExamples @6 :UInt64;
  numSteps @7 :UInt64;
  numTokens @8 :UInt64;
  trainLoss @9 :Float64;
  method @10 :Text;
  numPasses @11 :UInt64;
}

enum PublishMode {
  add @0;
  replace @1;
}

struct VersionManifest {
  version @0 :UInt64;
  round @1 :UInt64;
  mode @2 :PublishMode;
  payload @3 :Data;
  payloadBytes @4 :UInt64;
  previousHead @5 :Data;
  roundRoot @6 :Data;
  config @7 :Data;
  head @8 :Data;
  rosterChange @9 :UInt64;  # of the round's plan
  roster @10 :Data;
}

enum RosterAction {
  add @0;
  revoke @1;
  renew @2;
  edit @3;
}

enum Role {
  train @0;
  evaluate @1;
}

struct RosterChange {
  federation @0 :Text;
  number @1 :UInt64;      # 1-based
  previous @2 :Data;      # SHA-256 of the bytes of the change before; of the first one zeros
  roster @3 :Data;        # digest of the roster with this change
  action @4 :RosterAction;
  name @5 :Text;          # empty: edit
  curve @6 :Data;         # add, renew
  signing @7 :Data;
  oldCurve @8 :Data;      # revoke, renew: refused from now on
  oldSigning @9 :Data;
  role @10 :Role;         # add, renew
  maxRank @11 :UInt64;
  maxExamples @12 :UInt64;
  ownSettings @13 :Bool;
}

struct Metric {
  name @0 :Text;
  value @1 :Float64;
}

struct EvaluationManifest {
  version @0 :UInt64;
  client @1 :Text;
  numExamples @2 :UInt64;
  metrics @3 :List(Metric);  # by name, ascending
}

struct Signed {
  bytes @0 :Data;
  signature @1 :Data;
}

# ---- unsigned: one Envelope a header frame -----------------------------------------------------

enum Refusal {
  malformedFrame @0;
  tooLarge @1;
  unknownClient @2;
  wrongRole @3;
  badSignature @4;
  roundClosed @5;
  notInCohort @6;
  replay @7;
  wrongBase @8;
  planMismatch @9;
  rankAboveQuota @10;
  payloadMismatch @11;
  notFinite @12;
  badGauge @13;
  examplesAboveCap @14;
  timeout @15;
  normAboveBound @16;
  tooMany @17;
  localFailure @18;
  superseded @19;
  planRefused @20;
  settingsDiffer @21;
  trainingFailed @22;
}

struct Hello {
  protocol @0 :UInt32;
  software @1 :Text;
  baseSha256 @2 :Text;
  device @3 :Text;
  numExamples @4 :UInt64;
  base @5 :Text;
  instance @6 :UInt64;
}

struct CatalogRequest {
  since @0 :UInt64;
}

struct Offer {
  update @0 :Signed;
  seconds @1 :Float64;
}

struct Report {
  evaluation @0 :Signed;
  seconds @1 :Float64;
}

struct Progress {
  round @0 :UInt64;
  step @1 :UInt64;
  numSteps @2 :UInt64;
  loss @3 :Float64;
  numTokens @4 :UInt64;
  peakBytes @5 :UInt64;
}

struct Decline {
  round @0 :UInt64;
  attempt @1 :UInt64;
  refusal @2 :Refusal;
  detail @3 :Text;
}

struct Welcome {
  federation @0 :Text;
  version @1 :UInt64;
  rounds @2 :UInt64;
}

struct Task {
  plan @0 :Signed;
  settings @1 :Data;
}

struct EvaluateTask {
  version @0 :UInt64;
}

struct Catalog {
  versions @0 :List(Signed);
}

struct Verdict {
  round @0 :UInt64;
  accepted @1 :Bool;
  refusal @2 :Refusal;
  detail @3 :Text;
}

struct Done {
  version @0 :UInt64;
}

struct Refused {
  refusal @0 :Refusal;
  detail @1 :Text;
}

struct Want {
  blob @0 :Data;
  offset @1 :UInt64;
  length @2 :UInt64;
}

# The data follow as the message's second frame.
struct Chunk {
  blob @0 :Data;
  offset @1 :UInt64;
}

struct Envelope {
  union {
    nothing @0 :Void;  # what an all-zero frame would be: never sent, always refused
    hello @1 :Hello;
    catalogRequest @2 :CatalogRequest;
    offer @3 :Offer;
    report @4 :Report;
    progress @5 :Progress;
    welcome @6 :Welcome;
    task @7 :Task;
    evaluateTask @8 :EvaluateTask;
    catalog @9 :Catalog;
    verdict @10 :Verdict;
    done @11 :Done;
    refused @12 :Refused;
    want @13 :Want;
    chunk @14 :Chunk;
    decline @15 :Decline;
  }
}
