// A Node.js client of the runtime, with the stubs of `make stubs LANG=typescript`: what its checks find, as JSON, by name.

import * as grpc from "@grpc/grpc-js";

import { PredictRequest, type PredictResponse } from "./stubs/hydro_serving_grpc/tf/api/predict.js";
import { PredictionServiceClient } from "./stubs/hydro_serving_grpc/tf/api/prediction_service.js";
import { TensorProto } from "./stubs/hydro_serving_grpc/tf/tensor.js";
import { DataType } from "./stubs/hydro_serving_grpc/tf/types.js";
import { GRPCInferenceServiceClient, ModelInferRequest, type ModelInferResponse } from "./stubs/inference/grpc_predict_v2.js";

type Outcome<T> = { code: string; answer?: T; details: string; trailing?: grpc.Metadata };
type Callback<T> = (error: grpc.ServiceError | null, answer: T) => void;

const targets = Object.fromEntries(process.argv.slice(2).map((argument) => argument.split("=", 2) as [string, string]));
const insecure = grpc.credentials.createInsecure();

function outcome<T>(call: (callback: Callback<T>) => void): Promise<Outcome<T>> {
  return new Promise((resolve) =>
    call((error, answer) =>
      error
        ? resolve({ code: grpc.status[error.code] ?? "?", details: error.details, trailing: error.metadata })
        : resolve({ code: "OK", answer, details: "" }),
    ),
  );
}

function request(value: bigint, input = "x", signature = ""): PredictRequest {
  const tensor = TensorProto.fromPartial({
    dtype: DataType.DT_INT64,
    tensorShape: { dim: [{ size: 1n, name: "" }] },
    int64Val: [value],
  });
  return PredictRequest.fromPartial({ modelSpec: { signatureName: signature }, inputs: { [input]: tensor } });
}

function predict(client: PredictionServiceClient, sent: PredictRequest, seconds = 20): Promise<Outcome<PredictResponse>> {
  const deadline = { deadline: Date.now() + seconds * 1000 };
  return outcome((callback) => client.predict(sent, new grpc.Metadata(), deadline, callback));
}

function client(name: string): PredictionServiceClient {
  return new PredictionServiceClient(targets[name]!, insecure);
}

async function predictions() {
  const mine = client("moody");
  const largest = 2n ** 62n - 1n; // more than a double holds
  const got = await Promise.all([21n, largest].map((value) => predict(mine, request(value))));
  mine.close();
  return got.map((each) => each.answer?.outputs["y"]?.int64Val.map(String));
}

async function openInference() {
  const mine = new GRPCInferenceServiceClient(targets["moody"]!, insecure);
  const sent = ModelInferRequest.fromPartial({
    inputs: [{ name: "x", datatype: "INT64", shape: [1n], contents: { int64Contents: [21n] } }],
  });
  const got = await outcome<ModelInferResponse>((callback) => mine.modelInfer(sent, callback));
  mine.close();
  return [got.code, got.answer?.outputs[0]?.contents?.int64Contents.map(String)];
}

async function signatures() {
  const mine = client("several");
  const names = ["double", "negate", "gone"];
  const got = await Promise.all(names.map((name) => predict(mine, request(2n, "x", name))));
  mine.close();
  return got.map((each) => each.answer?.outputs["y"]?.int64Val.map(String) ?? each.code);
}

async function errors() {
  const mine = client("moody");
  const contract = await predict(mine, request(1n, "z"));
  const model = await predict(mine, request(-1n));
  const late = await predict(mine, request(-3n), 0.5);
  mine.close();
  const details = contract.trailing?.get("grpc-status-details-bin")[0];
  return {
    contract: contract.code,
    detailed: Buffer.isBuffer(details) && details.includes("google.rpc.BadRequest") && details.includes("inputs.z"),
    model: model.code,
    deadline: late.code,
  };
}

async function renewals() {
  const mine = client("renewed");
  const lost = new Set<string>();
  let calls = 0;
  const end = Date.now() + 4000;
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (; Date.now() < end; calls++) {
        const got = await predict(mine, request(1n));
        if (got.code !== "OK") lost.add(`${got.code}: ${got.details}`);
      }
    }),
  );
  mine.close();
  return { lost: [...lost], calls: calls > 8 };
}

console.log(
  JSON.stringify({
    predictions: await predictions(),
    "open inference": await openInference(),
    signatures: await signatures(),
    errors: await errors(),
    renewals: await renewals(),
  }),
);
