module peer

go 1.25

require github.com/nats-io/nats.go v1.53.1
