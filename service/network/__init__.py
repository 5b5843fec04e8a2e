"""What a connection gets before and around its requests: certificates, headers for browsers."""
