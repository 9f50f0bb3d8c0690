import hydrosphere.tensorflow.Types.DataType;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.protobuf.StatusProto;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;

/** A Java client of the runtime, with the stubs of `make stubs LANG=java`: a line `name: result` for each check. */
public final class Client {
  public static void main(String[] arguments) throws Exception {
    Map<String, String> targets = new TreeMap<>();
    for (String argument : arguments) {
      targets.put(argument.substring(0, argument.indexOf('=')), argument.substring(argument.indexOf('=') + 1));
    }
    System.out.println("health: " + health(targets.get("moody")));
    System.out.println("predict: " + ask(targets.get("moody"), "", "x", 21, 20));
    System.out.println("double: " + ask(targets.get("several"), "double", "x", 2, 20));
    System.out.println("negate: " + ask(targets.get("several"), "negate", "x", 2, 20));
    System.out.println("gone: " + ask(targets.get("several"), "gone", "x", 2, 20));
    System.out.println("contract: " + ask(targets.get("moody"), "", "z", 1, 20));
    System.out.println("model: " + ask(targets.get("moody"), "", "x", -1, 20));
    System.out.println("deadline: " + ask(targets.get("moody"), "", "x", -3, 0.5));
    System.out.println("open inference: " + infer(targets.get("moody")));
    System.out.println("renewals: " + renewals(targets.get("renewed")));
  }

  private static ManagedChannel channel(String target) {
    return ManagedChannelBuilder.forTarget("dns:///" + target).usePlaintext().build();
  }

  private static tensorflow.serving.PredictionServiceGrpc.PredictionServiceBlockingStub stub(ManagedChannel channel) {
    return tensorflow.serving.PredictionServiceGrpc.newBlockingStub(channel);
  }

  private static hydrosphere.tensorflow.serving.Predict.PredictRequest request(String signature, String input, long value) {
    var shape = hydrosphere.tensorflow.TensorShape.TensorShapeProto.newBuilder();
    shape.addDimBuilder().setSize(1);
    var tensor = hydrosphere.tensorflow.Tensor.TensorProto.newBuilder();
    tensor.setDtype(DataType.DT_INT64).setTensorShape(shape).addInt64Val(value);
    var request = hydrosphere.tensorflow.serving.Predict.PredictRequest.newBuilder();
    request.getModelSpecBuilder().setSignatureName(signature);
    return request.putInputs(input, tensor.build()).build();
  }

  private static String ask(String target, String signature, String input, long value, double seconds) {
    ManagedChannel channel = channel(target);
    try {
      var limited = stub(channel).withDeadlineAfter((long) (seconds * 1000), TimeUnit.MILLISECONDS);
      return limited.predict(request(signature, input, value)).getOutputsOrThrow("y").getInt64ValList().toString();
    } catch (StatusRuntimeException error) {
      return error.getStatus().getCode() + " " + fields(error);
    } finally {
      channel.shutdownNow();
    }
  }

  private static List<String> fields(StatusRuntimeException error) {
    List<String> fields = new ArrayList<>();
    for (var detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(com.google.rpc.BadRequest.class)) {
        try {
          detail.unpack(com.google.rpc.BadRequest.class).getFieldViolationsList().forEach(each -> fields.add(each.getField()));
        } catch (com.google.protobuf.InvalidProtocolBufferException unreadable) {
          fields.add(unreadable.toString());
        }
      }
    }
    return fields;
  }

  private static String health(String target) {
    ManagedChannel channel = channel(target);
    try {
      return HealthGrpc.newBlockingStub(channel).check(HealthCheckRequest.getDefaultInstance()).getStatus().toString();
    } finally {
      channel.shutdownNow();
    }
  }

  private static String infer(String target) {
    ManagedChannel channel = channel(target);
    try {
      var request = inference.GrpcPredictV2.ModelInferRequest.newBuilder();
      request.addInputsBuilder().setName("x").setDatatype("INT64").addShape(1).getContentsBuilder().addInt64Contents(21);
      var answer = inference.GRPCInferenceServiceGrpc.newBlockingStub(channel).modelInfer(request.build());
      return answer.getOutputs(0).getContents().getInt64ContentsList().toString();
    } finally {
      channel.shutdownNow();
    }
  }

  /** Calls for longer than a connection's age: no call is lost when the runtime asks for a new connection. */
  private static String renewals(String target) throws Exception {
    ManagedChannel channel = channel(target);
    var lost = java.util.Collections.synchronizedSet(new TreeSet<String>());
    List<Thread> threads = new ArrayList<>();
    for (int worker = 0; worker < 4; worker++) {
      threads.add(new Thread(() -> {
        for (long end = System.nanoTime() + 4_000_000_000L; System.nanoTime() < end;) {
          try {
            stub(channel).withDeadlineAfter(20, TimeUnit.SECONDS).predict(request("", "x", 1));
          } catch (StatusRuntimeException error) {
            lost.add(error.getStatus().toString());
          }
        }
      }));
    }
    for (Thread thread : threads) thread.start();
    for (Thread thread : threads) thread.join();
    channel.shutdownNow();
    return lost.toString();
  }
}
