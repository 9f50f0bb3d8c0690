// Command echo is the native limit: a gRPC server in Go that decodes each typed tensor of a PredictRequest into a slice of
// numbers and encodes it again, under the name y, as the identity model does. No contract, no model process, no limits.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protowire"

	"native/raw"
)

const (
	floatVal, int64Val = 5, 10 // TensorProto
	unlimited          = math.MaxInt32
)

func main() {
	if err := serve("127.0.0.1:" + os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func serve(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(raw.Codec{}), grpc.MaxRecvMsgSize(unlimited), grpc.MaxSendMsgSize(unlimited))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "tensorflow.serving.PredictionService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Predict", Handler: predict}},
	}, nil)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return server.Serve(listener)
}

func predict(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var request []byte
	if err := decode(&request); err != nil {
		return nil, err
	}
	answer := make([]byte, 0, len(request)+16)
	err := fields(request, func(number protowire.Number, value []byte) error {
		if number != 2 { // inputs, a map
			return nil
		}
		return fields(value, func(number protowire.Number, tensor []byte) error {
			if number != 2 {
				return nil
			}
			echoed, err := identity(tensor)
			if err != nil {
				return err
			}
			entry := protowire.AppendTag(nil, 1, protowire.BytesType)
			entry = protowire.AppendString(entry, "y")
			entry = protowire.AppendTag(entry, 2, protowire.BytesType)
			entry = protowire.AppendVarint(entry, uint64(len(echoed)))
			answer = protowire.AppendTag(answer, 1, protowire.BytesType)
			answer = protowire.AppendVarint(answer, uint64(len(entry)+len(echoed)))
			answer = append(append(answer, entry...), echoed...)
			return nil
		})
	})
	return &answer, err
}

// identity decodes the numbers of a TensorProto and writes it anew.
func identity(tensor []byte) ([]byte, error) {
	out := make([]byte, 0, len(tensor)+16)
	for len(tensor) > 0 {
		number, kind, n := protowire.ConsumeTag(tensor)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(number, kind, tensor[n:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		value := tensor[n : n+size]
		switch {
		case number == floatVal && kind == protowire.BytesType:
			packed, _ := protowire.ConsumeBytes(value)
			out = appendFloats(protowire.AppendTag(out, number, kind), floats(packed))
		case number == int64Val && kind == protowire.BytesType:
			packed, _ := protowire.ConsumeBytes(value)
			out = appendIntegers(protowire.AppendTag(out, number, kind), integers(packed))
		default:
			out = append(out, tensor[:n+size]...)
		}
		tensor = tensor[n+size:]
	}
	return out, nil
}

func floats(packed []byte) []float32 {
	values := make([]float32, len(packed)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(packed[4*i:]))
	}
	return values
}

func appendFloats(out []byte, values []float32) []byte {
	out = protowire.AppendVarint(out, uint64(4*len(values)))
	for _, value := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(value))
	}
	return out
}

func integers(packed []byte) []int64 {
	values := make([]int64, 0, len(packed))
	for len(packed) > 0 {
		value, n := protowire.ConsumeVarint(packed)
		values, packed = append(values, int64(value)), packed[n:]
	}
	return values
}

func appendIntegers(out []byte, values []int64) []byte {
	size := 0
	for _, value := range values {
		size += protowire.SizeVarint(uint64(value))
	}
	out = protowire.AppendVarint(out, uint64(size))
	for _, value := range values {
		out = protowire.AppendVarint(out, uint64(value))
	}
	return out
}

// fields calls back with each length-delimited field of a message; others are passed over.
func fields(message []byte, each func(protowire.Number, []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message[n:])
			if err := each(number, value); err != nil {
				return err
			}
		}
		message = message[n+size:]
	}
	return nil
}
