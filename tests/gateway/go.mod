// The gateway's verdict on an agent, by Go's own crypto. The version is that of the gateway of OpenChoreo v0.17, for the
// same defaults.
module choreoctl.dev/gateway

go 1.24.12
