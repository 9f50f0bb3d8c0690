// A Go client of the runtime, with the stubs of `make stubs LANG=go`: what its checks find, as JSON, by name.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // client-side health checking is off without it
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"clients/stubs/hydro_serving_grpc/serving/contract"
	"clients/stubs/hydro_serving_grpc/serving/runtime"
	"clients/stubs/hydro_serving_grpc/tf"
	"clients/stubs/hydro_serving_grpc/tf/api"
	"clients/stubs/inference"
)

const service = "tensorflow.serving.PredictionService"
const limit = 20 * time.Second

// Balanced over all addresses, and only over those whose health is SERVING.
const healthChecked = `{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "` + service + `"}}`

const retried = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.2s",
	"maxBackoff": "2s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

type check func(targets map[string]string) any

func main() {
	targets := map[string]string{}
	for _, argument := range os.Args[1:] {
		name, target, _ := strings.Cut(argument, "=")
		targets[name] = target
	}
	results := map[string]any{}
	for name, each := range map[string]check{
		"health":                 health,
		"predict in every era":   predictInEveryEra,
		"several signatures":     severalSignatures,
		"errors":                 errors,
		"health-checked restart": restart,
		"come and go":            comeAndGo,
		"retries":                retries,
		"renewals":               renewals,
	} {
		results[name] = each(targets)
	}
	_ = json.NewEncoder(os.Stdout).Encode(results)
}

func dial(target, config string) *grpc.ClientConn {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if config != "" {
		options = append(options, grpc.WithDefaultServiceConfig(config))
	}
	connection, err := grpc.NewClient("dns:///"+target, options...)
	if err != nil {
		panic(err)
	}
	return connection
}

func request(signature string, values ...int64) *api.PredictRequest {
	shape := &tf.TensorShapeProto{Dim: []*tf.TensorShapeProto_Dim{{Size: int64(len(values))}}}
	tensor := &tf.TensorProto{Dtype: tf.DataType_DT_INT64, TensorShape: shape, Int64Val: values}
	return &api.PredictRequest{
		ModelSpec: &api.ModelSpec{SignatureName: signature}, Inputs: map[string]*tf.TensorProto{"x": tensor},
	}
}

func ask(connection *grpc.ClientConn, value int64, options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	answer, err := api.NewPredictionServiceClient(connection).Predict(ctx, request("", value), options...)
	if err != nil {
		return err
	}
	if got := answer.Outputs["y"].Int64Val; len(got) != 1 || got[0] != 2*value {
		return fmt.Errorf("%d came back as %v", value, got)
	}
	return nil
}

func text(err error) string {
	if err == nil {
		return "OK"
	}
	if found, ok := status.FromError(err); ok {
		return found.Code().String()
	}
	return err.Error()
}

func health(targets map[string]string) any {
	connection := dial(targets["moody"], "")
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	found := map[string]string{}
	for _, name := range []string{"", service, "no.such.Service"} {
		answer, err := grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: name})
		if err != nil {
			found[name] = text(err)
		} else {
			found[name] = answer.Status.String()
		}
	}
	return found
}

func predictInEveryEra(targets map[string]string) any {
	connection := dial(targets["moody"], "")
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	found := map[string]any{"v2": text(ask(connection, 21))}

	tensor := &contract.Tensor{
		Dtype: contract.DataType_DT_INT64, TensorShape: &contract.TensorShape{Dims: []int64{1}}, Int64Val: []int64{21},
	}
	v3, err := runtime.NewPredictionServiceClient(connection).Predict(
		ctx, &runtime.PredictRequest{Inputs: map[string]*contract.Tensor{"x": tensor}})
	found["v3"] = []any{text(err), v3.GetOutputs()["y"].GetInt64Val()}

	infer := &inference.ModelInferRequest{Inputs: []*inference.ModelInferRequest_InferInputTensor{{
		Name: "x", Datatype: "INT64", Shape: []int64{1}, Contents: &inference.InferTensorContents{Int64Contents: []int64{21}},
	}}}
	oip, err := inference.NewGRPCInferenceServiceClient(connection).ModelInfer(ctx, infer)
	found["open inference"] = []any{text(err), oip.GetOutputs()[0].GetContents().GetInt64Contents()}
	return found
}

func severalSignatures(targets map[string]string) any {
	connection := dial(targets["several"], "")
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	found := map[string]any{}
	for _, name := range []string{"double", "negate", "gone"} {
		answer, err := api.NewPredictionServiceClient(connection).Predict(ctx, request(name, 2))
		if err != nil {
			found[name] = text(err)
		} else {
			found[name] = answer.Outputs["y"].Int64Val
		}
	}
	return found
}

// errors are the status codes, and the fields that the details of a refusal name.
func errors(targets map[string]string) any {
	connection := dial(targets["moody"], "")
	defer connection.Close()
	wrong := request("", 1)
	wrong.Inputs["z"] = wrong.Inputs["x"]
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := api.NewPredictionServiceClient(connection).Predict(ctx, wrong)
	fields := []string{}
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, violation := range bad.FieldViolations {
				fields = append(fields, violation.Field)
			}
		}
	}
	short, cancelShort := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancelShort()
	_, late := api.NewPredictionServiceClient(connection).Predict(short, request("", -3))
	return map[string]any{
		"contract": text(err), "fields": fields, "model": text(ask(connection, -1)), "deadline": text(late),
	}
}

// restart crashes the model under a health-checked client: its calls that wait for a ready runtime are all answered.
func restart(targets map[string]string) any {
	connection := dial(targets["crashing"], healthChecked)
	defer connection.Close()
	found := map[string]any{"before": text(ask(connection, 1)), "crash": text(ask(connection, -2))}
	failed := map[string]int{}
	for value := range int64(50) {
		if err := ask(connection, value, grpc.WaitForReady(true)); err != nil {
			failed[text(err)]++
		}
	}
	found["after"] = failed
	return found
}

// comeAndGo connects, calls once and leaves, forty times eight at a time, each with a health watch that is cut off.
func comeAndGo(targets map[string]string) any {
	var failed atomic.Int32
	for range 40 {
		if failed.Load() > 0 {
			break // a frozen runtime would cost minutes more
		}
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				connection := dial(targets["visited"], healthChecked)
				defer connection.Close()
				if ask(connection, 1, grpc.WaitForReady(true)) != nil {
					failed.Add(1)
				}
			})
		}
		group.Wait()
	}
	connection := dial(targets["visited"], "")
	defer connection.Close()
	return map[string]any{"failed": failed.Load(), "afterwards": text(ask(connection, 1))}
}

// retries crashes the model three times under four callers; with a retry policy they lose no call.
func retries(targets map[string]string) any {
	connection := dial(targets["crashing"], retried)
	defer connection.Close()
	var group sync.WaitGroup
	crashes := map[string]int{}
	crashed := make(chan struct{})
	group.Go(func() {
		defer close(crashed)
		for range 3 {
			time.Sleep(400 * time.Millisecond)
			crashes[text(ask(connection, -2))]++
		}
	})
	var lost sync.Map
	var after atomic.Int32
	call := func(value int64) {
		if err := ask(connection, value); err != nil {
			lost.Store(err.Error(), true)
		}
	}
	for worker := range int64(4) {
		group.Go(func() {
			for {
				select {
				case <-crashed:
					call(worker) // one more, to a model that has to start again
					after.Add(1)
					return
				default:
					call(worker)
				}
			}
		})
	}
	group.Wait()
	texts := []string{}
	lost.Range(func(key, _ any) bool { texts = append(texts, key.(string)); return true })
	return map[string]any{"crashes": crashes, "lost": texts, "after": after.Load()}
}

// renewals calls for longer than a connection's age: no call is lost when the runtime asks for a new connection.
func renewals(targets map[string]string) any {
	connection := dial(targets["renewed"], "")
	defer connection.Close()
	var group sync.WaitGroup
	var calls atomic.Int32
	var lost sync.Map
	for worker := range int64(8) {
		group.Go(func() {
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); calls.Add(1) {
				if err := ask(connection, worker); err != nil && status.Code(err) != codes.OK {
					lost.Store(err.Error(), true)
				}
			}
		})
	}
	group.Wait()
	texts := []string{}
	lost.Range(func(key, _ any) bool { texts = append(texts, key.(string)); return true })
	return map[string]any{"lost": texts, "calls": calls.Load() > 8}
}
