// Package raw is a gRPC codec that passes messages on as the bytes they are.
package raw

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// Codec carries *[]byte.
type Codec struct{}

// Name is the content subtype, application/grpc+proto as everybody's.
func (Codec) Name() string { return "proto" }

// Marshal hands out the bytes themselves.
func (Codec) Marshal(message any) (mem.BufferSlice, error) {
	data, ok := message.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("expected *[]byte, got %T", message)
	}
	return mem.BufferSlice{mem.SliceBuffer(*data)}, nil
}

// Unmarshal copies the bytes once.
func (Codec) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}
