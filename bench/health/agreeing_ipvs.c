// Preloaded into keepalived where the kernel has no IPVS: it agrees to all it is told, at once, and
// holds nothing. keepalived's checkers run as they always do; what the kernel would cost is left out.
enum { NL_CB_FINISH = 1, NL_CB_ACK = 4 };

typedef int heard(void *message, void *argument);

static heard *acknowledged;
static void *its_argument;

int genl_ctrl_resolve(void *socket, const char *family)
{
	return 0x1f;
}

int nl_socket_modify_cb(void *socket, int type, int kind, heard *callback, void *argument)
{
	if (type == NL_CB_FINISH || type == NL_CB_ACK) {
		acknowledged = callback;
		its_argument = argument;
	}
	return 0;
}

int nl_send_auto(void *socket, void *message)
{
	return 1;
}

int nl_recvmsgs_default(void *socket)
{
	if (acknowledged)
		acknowledged(0, its_argument);
	return 0;
}
