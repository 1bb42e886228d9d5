/* A camera for tests: answers the V4L2 requests of one program in the kernel's place.
 *
 *     fake_camera NODE LOG "red red error unplug green" -- PROGRAM ARGUMENTS...
 *
 * The program runs under a seccomp filter that hands its ioctl requests of type 'V' and its polls to this process
 * (SECCOMP_RET_USER_NOTIF); everything else is the kernel's. NODE is an ordinary file, which holds the buffers, so that
 * mmap is real. Structures and numbers are those of the system's header. The words of the script are frames and
 * accidents, one for each poll of the running camera; the last frame repeats.
 *
 *     red green blue   a frame of this colour: YUYV rows are padded by 32 bytes of 0xff
 *     @FILE            a frame with the bytes of FILE
 *     error            a frame that the driver marks as damaged          short     a frame of which half is missing
 *     empty            a frame of no bytes                               again     ready, but then there is none
 *     quiet            nothing within the time                           signal    interrupted by a signal
 *     silent           nothing until the camera is stopped
 *     unplug           the node goes, polls hang up; back after 0.3 s    gone      the same, for ever
 *     nodev            the node goes, ready, dequeuing says so; back     io        dequeuing fails, the node stays
 *
 * Environment: FAKE_FORMATS (default "YUYV MJPG"), FAKE_KIND (capture, metadata, planes), FAKE_BUSY=N (the format cannot be set N
 * times), FAKE_PACE (microseconds a frame), FAKE_FULL (full-range colours).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "another machine"
#endif
#ifndef SYS_poll
#define SYS_poll SYS_ppoll
#endif

enum { BUFFERS = 4, PADDING = 32, LARGEST = 8 << 20 };

static const char *node, *script;
static FILE *log_file;
static pid_t child;
static unsigned char *memory;
static struct v4l2_pix_format format;
static int is_queued[BUFFERS], queue[BUFFERS], n_queued, is_streaming, busy, sequence;
static char word[512], frame[512] = "red";

static void say(const char *text) { fprintf(log_file, "%s\n", text); fflush(log_file); }

static void die(const char *what) { perror(what); exit(99); }

static int is_word(const char *w) { return strcmp(word, w) == 0; }

/* The node appears: a new file, whose contents are the buffers. */
static void plug(void)
{
	int fd = open(node, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)BUFFERS * LARGEST)) die(node);
	memory = mmap(NULL, (size_t)BUFFERS * LARGEST, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) die("mmap");
	close(fd);
	is_streaming = n_queued = 0;
}

static void *plug_later(void *unused)
{
	(void)unused;
	usleep(300000);
	plug();
	return NULL;
}

static void unplug(int returns)
{
	pthread_t thread;
	unlink(node);
	if (returns && pthread_create(&thread, NULL, plug_later, NULL)) die("pthread_create");
}

static const char *setting(const char *name, const char *otherwise)
{
	const char *value = getenv(name);
	return value ? value : otherwise;
}

/* The format of this index, or 0. */
static unsigned nth_format(unsigned index)
{
	const char *formats = setting("FAKE_FORMATS", "YUYV MJPG");
	if (index * 5 + 4 > strlen(formats)) return 0;
	formats += index * 5;
	return v4l2_fourcc(formats[0], formats[1], formats[2], formats[3]);
}

static const unsigned widths[] = { 160, 320, 640 }, heights[] = { 120, 240, 480 };

static int answer(unsigned long request, void *data)
{
	char line[256];
	if (request == VIDIOC_QUERYCAP) {
		struct v4l2_capability *c = data;
		const char *kind = setting("FAKE_KIND", "capture");
		memset(c, 0, sizeof *c);
		strcpy((char *)c->driver, "fake");
		strcpy((char *)c->card, "Camera of a test");
		c->device_caps = V4L2_CAP_STREAMING | (strcmp(kind, "metadata") == 0 ? V4L2_CAP_META_CAPTURE
			: strcmp(kind, "planes") == 0 ? V4L2_CAP_VIDEO_CAPTURE_MPLANE : V4L2_CAP_VIDEO_CAPTURE);
		/* The whole device can do more than this node. */
		c->capabilities = c->device_caps | V4L2_CAP_DEVICE_CAPS | V4L2_CAP_VIDEO_CAPTURE;
		return 0;
	}
	if (request == VIDIOC_ENUM_FMT) {
		struct v4l2_fmtdesc *f = data;
		if (f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || !nth_format(f->index)) return -EINVAL;
		f->pixelformat = nth_format(f->index);
		return 0;
	}
	if (request == VIDIOC_ENUM_FRAMESIZES) {
		struct v4l2_frmsizeenum *f = data;
		if (f->index >= 3) return -EINVAL;
		f->type = V4L2_FRMSIZE_TYPE_DISCRETE;
		f->discrete.width = widths[f->index];
		f->discrete.height = heights[f->index];
		return 0;
	}
	if (request == VIDIOC_S_FMT) {
		struct v4l2_format *f = data;
		if (busy > 0) { busy--; return -EBUSY; }
		if (f->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || is_streaming) return -EINVAL;
		format = f->fmt.pix;
		snprintf(line, sizeof line, "S_FMT %.4s %ux%u field %u", (char *)&format.pixelformat, format.width,
			 format.height, format.field);
		say(line);
		int is_yuyv = format.pixelformat == V4L2_PIX_FMT_YUYV;
		format.bytesperline = is_yuyv ? format.width * 2 + PADDING : 0;
		format.sizeimage = format.height * (format.width * 2 + PADDING);
		format.colorspace = V4L2_COLORSPACE_SRGB;
		format.quantization = getenv("FAKE_FULL") ? V4L2_QUANTIZATION_FULL_RANGE : V4L2_QUANTIZATION_DEFAULT;
		f->fmt.pix = format;
		return 0;
	}
	if (request == VIDIOC_G_PARM || request == VIDIOC_S_PARM) {
		struct v4l2_streamparm *p = data;
		if (request == VIDIOC_S_PARM) {
			struct v4l2_fract t = p->parm.capture.timeperframe;
			snprintf(line, sizeof line, "S_PARM %u/%u", t.numerator, t.denominator);
			say(line);
			p->parm.capture.timeperframe = (struct v4l2_fract){ 1, t.denominator / t.numerator };
			return 0;
		}
		p->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
		p->parm.capture.timeperframe = (struct v4l2_fract){ 1, 30 };
		return 0;
	}
	if (request == VIDIOC_REQBUFS) {
		struct v4l2_requestbuffers *r = data;
		if (r->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || r->memory != V4L2_MEMORY_MMAP) return -EINVAL;
		snprintf(line, sizeof line, "REQBUFS %u", r->count);
		say(line);
		r->count = r->count > BUFFERS ? BUFFERS : r->count;
		memset(is_queued, 0, sizeof is_queued);
		n_queued = 0;
		return 0;
	}
	if (request == VIDIOC_STREAMON || request == VIDIOC_STREAMOFF) {
		if (*(int *)data != V4L2_BUF_TYPE_VIDEO_CAPTURE) return -EINVAL;
		is_streaming = request == VIDIOC_STREAMON;
		strcpy(word, frame);
		say(is_streaming ? "STREAMON" : "STREAMOFF");
		return 0;
	}
	struct v4l2_buffer *b = data;
	if (b->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || b->memory != V4L2_MEMORY_MMAP) return -EINVAL;
	if (request == VIDIOC_QUERYBUF) {
		if (b->index >= BUFFERS) return -EINVAL;
		b->m.offset = b->index * LARGEST;
		b->length = format.sizeimage;
		return 0;
	}
	if (request == VIDIOC_QBUF) {
		if (b->index >= BUFFERS || is_queued[b->index]) return -EINVAL;
		is_queued[b->index] = 1;
		queue[n_queued++] = b->index;
		/* From now on the driver may write at any time. */
		memset(memory + (size_t)b->index * LARGEST, 0x55, format.sizeimage);
		return 0;
	}
	if (request != VIDIOC_DQBUF) return -ENOTTY;
	if (!is_streaming) return -EINVAL;
	if (is_word("again")) { strcpy(word, ""); return -EAGAIN; }
	if (is_word("signal")) { strcpy(word, "red"); return -EINTR; }
	if (is_word("nodev")) { unplug(1); return -ENODEV; }
	if (is_word("io")) return -EIO;
	if (n_queued == 0) { say("no buffer is queued"); return -EAGAIN; }
	b->index = queue[0];
	is_queued[b->index] = 0;
	memmove(queue, queue + 1, --n_queued * sizeof *queue);
	unsigned char *to = memory + (size_t)b->index * LARGEST;
	if (word[0] != '@' && !is_word("error") && !is_word("short") && !is_word("empty")) strcpy(frame, word);
	/* Y, U and V of red, green and blue in BT.601. */
	static const unsigned char limited[3][3] = { { 81, 90, 240 }, { 145, 54, 34 }, { 41, 240, 110 } };
	static const unsigned char full[3][3] = { { 76, 85, 255 }, { 150, 44, 21 }, { 29, 255, 107 } };
	const unsigned char *yuv = (getenv("FAKE_FULL") ? full : limited)[frame[0] == 'r' ? 0 : frame[0] == 'g' ? 1 : 2];
	memset(to, 0xff, format.sizeimage);
	b->bytesused = format.sizeimage;
	for (unsigned y = 0; word[0] != '@' && y < format.height; y++)
		for (unsigned x = 0; x < format.width; x++) {
			to[y * format.bytesperline + x * 2] = yuv[0];
			to[y * format.bytesperline + x * 2 + 1] = yuv[1 + x % 2];
		}
	if (word[0] == '@') {
		FILE *file = fopen(word + 1, "r");
		if (!file) die(word + 1);
		b->bytesused = fread(to, 1, format.sizeimage, file);
		fclose(file);
	}
	if (is_word("short")) b->bytesused /= 2;
	if (is_word("empty")) b->bytesused = 0;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	b->timestamp = (struct timeval){ now.tv_sec - 1, now.tv_nsec / 1000 };
	b->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | (is_word("error") ? V4L2_BUF_FLAG_ERROR : 0);
	b->sequence = sequence++;
	return 0;
}

/* Whether the file is the node: 0 no, 1 yes, 2 it was until it went. */
static int is_node(pid_t pid, int fd)
{
	char link[64], path[4096], gone[4096];
	snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	path[n < 0 ? 0 : n] = 0;
	snprintf(gone, sizeof gone, "%.4000s (deleted)", node);
	return strcmp(path, node) == 0 ? 1 : strcmp(path, gone) == 0 ? 2 : 0;
}

/* What happens next, from the script; at its end the last frame again. */
static void next_word(void)
{
	int n = 0;
	if (sscanf(script, " %511s%n", word, &n) == 1) script += n;
	else if (word[0] != '@') strcpy(word, frame);
}

static int answer_poll(pid_t pid, struct pollfd *fd)
{
	(void)pid;
	if (!is_streaming) { fd->revents = POLLERR; return 1; }
	usleep(atoi(setting("FAKE_PACE", "2000")));
	if (is_word("silent")) { usleep(20000); return 0; }
	next_word();
	if (is_word("quiet") || is_word("silent")) return 0;
	if (is_word("unplug") || is_word("gone")) {
		unplug(is_word("unplug"));
		fd->revents = POLLERR | POLLHUP;
		return 1;
	}
	fd->revents = POLLIN;
	return 1;
}

static int move(pid_t pid, void *here, unsigned long there, size_t size, int is_write)
{
	struct iovec local = { here, size }, remote = { (void *)there, size };
	ssize_t n = is_write ? process_vm_writev(pid, &local, 1, &remote, 1, 0) : process_vm_readv(pid, &local, 1, &remote, 1, 0);
	return n == (ssize_t)size;
}

static void handle(struct seccomp_notif *ask, struct seccomp_notif_resp *reply)
{
	unsigned char data[256] = { 0 };
	int fd = (int)ask->data.args[0], result;
	pid_t pid = ask->pid;
	if (ask->data.nr == SYS_ioctl) {
		unsigned long request = (unsigned)ask->data.args[1], there = ask->data.args[2];
		size_t size = _IOC_SIZE(request);
		int state = is_node(pid, fd);
		if (state != 1 || size > sizeof data) { reply->error = state == 2 ? -ENODEV : -ENOTTY; return; }
		if ((_IOC_DIR(request) & _IOC_WRITE) && !move(pid, data, there, size, 0)) { reply->error = -EFAULT; return; }
		result = answer(request, data);
		if (result == 0 && (_IOC_DIR(request) & _IOC_READ)) move(pid, data, there, size, 1);
		reply->error = result;
		return;
	}
	struct pollfd poll;
	if (ask->data.args[1] == 1 && move(pid, &poll, ask->data.args[0], sizeof poll, 0)) {
		int state = is_node(pid, poll.fd);
		poll.revents = 0;
		if (state) {
			if (state == 2) { poll.revents = POLLERR | POLLHUP; result = 1; }
			else result = answer_poll(pid, &poll);
			move(pid, &poll, ask->data.args[0], sizeof poll, 1);
			reply->val = result;
			return;
		}
	}
	reply->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
}

static void *wait_for_child(void *unused)
{
	int status = 0;
	(void)unused;
	waitpid(child, &status, 0);
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int main(int argc, char **argv)
{
	if (argc < 6) return 98;
	node = argv[1];
	script = argv[3];
	log_file = fopen(argv[2], "we");
	if (!log_file) die(argv[2]);
	busy = atoi(setting("FAKE_BUSY", "0"));
	plug();
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, 7),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_poll, 6, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'V' << 8, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("prctl");
	/* This process has the filter, too, but makes none of these calls. */
	int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	if (listener < 0) die("seccomp");
	fcntl(listener, F_SETFD, FD_CLOEXEC);
	child = fork();
	if (child < 0) die("fork");
	if (child == 0) {
		execv(argv[5], argv + 5);
		_exit(97);
	}
	fprintf(log_file, "pid %d\n", child);
	fflush(log_file);
	pthread_t thread;
	if (pthread_create(&thread, NULL, wait_for_child, NULL)) die("pthread_create");
	for (;;) {
		struct seccomp_notif ask;
		struct seccomp_notif_resp reply;
		memset(&ask, 0, sizeof ask);
		memset(&reply, 0, sizeof reply);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &ask)) continue;
		reply.id = ask.id;
		handle(&ask, &reply);
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply);
	}
}
